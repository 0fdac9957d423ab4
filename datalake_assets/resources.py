"""How assets reach the lake and the sources: thin objects over plain clients.

A resource reads the settings when it is used, never when definitions load, so that a missing variable is
reported by the run that needs it. HTTP, SQL and loading logic do not belong here.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import dagster as dg
from pydantic import SecretStr

from datalake_assets.clock import Clock
from datalake_assets.entities import Entity
from datalake_assets.lake import crashpoints
from datalake_assets.lake.guards import Tolerances
from datalake_assets.lake.landing import Landing
from datalake_assets.lake.ledger import Ledger
from datalake_assets.settings import CsToolsSettings, PersonApiSettings, Settings, VdsWrapperSettings, load_settings
from datalake_assets.sources.courses import CourseApi
from datalake_assets.sources.hawk import Hawk
from datalake_assets.sources.http import HttpSource
from datalake_assets.sources.peoplesoft import CsTools, QueryAccessService
from datalake_assets.sources.persons import PersonApi, SnapLogicPersons
from datalake_assets.sources.policies import API_PAGE, COURSE_TERM, PERSON_BATCH, SAP_IDS, VDS_PAGE, RequestPolicy
from datalake_assets.sources.sap import SapEmployees
from datalake_assets.sources.vds import VdsAdap, VdsWrapper
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets.storage.postgres_io_manager import LoadLedger, PostgresIOManager
from datalake_assets.worker import Worker


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The lake: its database, its snapshots, its clock and its tolerances."""

    @property
    def settings(self) -> Settings:
        """The environment of this process."""
        settings = load_settings()
        if step := settings.get("DATALAKE_CRASH_AT"):
            crashpoints.arm(step)
        return settings

    @property
    def clock(self) -> Clock:
        """What today is."""
        return self.settings.clock

    @property
    def ledger(self) -> Ledger:
        """Attempts and receipts."""
        return Ledger()

    @property
    def tolerances(self) -> Tolerances:
        """How much may be missing."""
        return self.settings.tolerances

    def landing(self, entity: Entity) -> Landing:
        """Snapshots of an entity."""
        return Landing(self.snapshots, entity)

    @property
    def snapshots(self) -> ParquetStore:
        """Snapshots of all entities."""
        return ParquetStore(self.settings.lake_url)

    @property
    def spools(self) -> ParquetStore:
        """Answered requests of unfinished loads."""
        return ParquetStore(str(self.settings.spool_folder))

    @asynccontextmanager
    async def connect(self, run_id: str) -> AsyncIterator[asyncpg.Connection]:
        """A connection to the lake that carries the run's id as application name."""
        async with session(self.settings.postgres(), application_name=run_id) as connection:
            yield connection


class LakeTables(PostgresIOManager):
    """Tables of the lake as inputs and outputs of assets."""

    @property
    def address(self) -> PostgresAddress:
        """The lake's database."""
        return load_settings().postgres()

    @property
    def ledger(self) -> LoadLedger:
        """Attempts and receipts."""
        return Ledger()


class SourcesResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The source systems: clients to be entered as async contexts, by the way that is configured for each.

    Every method raises a `SettingError` that names the variable if one is missing.
    """

    def policy_of(self, policy: RequestPolicy) -> RequestPolicy:
        """What a request may cost; a rehearsal is less patient than a night."""
        return policy.with_backoff(load_settings().backoff_factor)

    def queries(self, policy: RequestPolicy) -> CsTools | QueryAccessService:
        """PeopleSoft queries, through CS Tools or the Query Access Service.

        Args:
            policy: What a request may cost.
        """
        settings = load_settings()
        agent = settings.require("HTTP_USER_AGENT")
        way = settings.peoplesoft()
        if isinstance(way, CsToolsSettings):
            return CsTools(
                way.endpoint,
                way.key,
                policy=self.policy_of(policy),
                row_cap=way.row_cap,
                ca_bundle=way.ca_bundle,
                user_agent=agent,
            )
        return QueryAccessService(
            way.url,
            way.user,
            way.password,
            policy=self.policy_of(policy),
            node=way.node,
            row_cap=way.row_cap,
            ca_bundle=way.ca_bundle,
            user_agent=agent,
        )

    def employees(self) -> SapEmployees:
        """SAP's list of employees."""
        settings = load_settings()
        way = settings.sap()
        return SapEmployees(
            way.url,
            way.key,
            active=(way.active_status,),
            policy=self.policy_of(SAP_IDS),
            ca_bundle=way.ca_bundle,
            user_agent=settings.require("HTTP_USER_AGENT"),
        )

    def directory(self) -> VdsWrapper | VdsAdap:
        """The virtual directory, through its wrapper or its own interface."""
        settings = load_settings()
        agent = settings.require("HTTP_USER_AGENT")
        way = settings.vds()
        if isinstance(way, VdsWrapperSettings):
            return VdsWrapper(
                way.url,
                way.key,
                size_limit=way.size_limit,
                policy=self.policy_of(VDS_PAGE),
                ca_bundle=way.ca_bundle,
                user_agent=agent,
            )
        return VdsAdap(
            way.url,
            way.base_dn,
            basic=way.basic,
            bearer=way.bearer,
            policy=self.policy_of(VDS_PAGE),
            ca_bundle=way.ca_bundle,
            user_agent=agent,
        )

    def persons(self, worker: Worker | None = None) -> PersonApi | SnapLogicPersons:
        """Documents of people, from the person API or through SnapLogic.

        Args:
            worker: Reads the answers; None: this process does.
        """
        settings = load_settings()
        agent = settings.require("HTTP_USER_AGENT")
        way = settings.person_api()
        if isinstance(way, PersonApiSettings):
            return PersonApi(
                way.url,
                way.key,
                policy=self.policy_of(PERSON_BATCH),
                ca_bundle=way.ca_bundle,
                user_agent=agent,
                worker=worker,
            )
        return SnapLogicPersons(
            way.url,
            way.key,
            cs_env=way.cs_env,
            policy=self.policy_of(PERSON_BATCH),
            ca_bundle=way.ca_bundle,
            user_agent=agent,
            worker=worker,
        )

    def named(self, name: str, policy: RequestPolicy = API_PAGE) -> HttpSource:
        """A source that declared pipelines name, with the logon that is set for it.

        Args:
            name: As it stands in a `defs.yaml`.
            policy: What a request may cost.
        """
        settings = load_settings()
        way = settings.named_source(name)
        key = way.key or SecretStr("")
        headers = {"bearer": {"Authorization": SecretStr(f"Bearer {key.get_secret_value()}")}}
        return HttpSource(
            name,
            way.url,
            policy=self.policy_of(policy),
            headers=({way.key_header: key} if way.auth == "api_key" else headers.get(way.auth)),
            basic=(way.identity, key) if way.auth == "basic" else None,
            signer=Hawk(way.identity, key) if way.auth == "hawk" else None,
            redirect_hosts=way.redirect_hosts,
            ca_bundle=way.ca_bundle,
            user_agent=settings.require("HTTP_USER_AGENT"),
        )

    def courses(self) -> CourseApi:
        """Courses, through SnapLogic."""
        settings = load_settings()
        way = settings.course_api()
        return CourseApi(
            way.url,
            way.key,
            cs_env=way.cs_env,
            policy=self.policy_of(COURSE_TERM),
            ca_bundle=way.ca_bundle,
            user_agent=settings.require("HTTP_USER_AGENT"),
        )
