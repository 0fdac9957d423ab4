"""The only reader of the environment: what an operator can set, its default, and what it is for.

Everything else takes values as arguments. Nothing is read when the module is imported; a missing or wrong
value is reported, by the name of its variable, when something first needs it. Secrets leave this module only
as `SecretStr`. Which day it is belongs to `clock.py`; how connections are made, to `resources.py`.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import SecretStr

from datalake_assets.clock import Clock
from datalake_assets.errors import DatalakeError
from datalake_assets.lake.guards import Tolerances
from datalake_assets.notify.routes import MAIL, WEBHOOK, MailServer, Routes
from datalake_assets.storage.postgres import PostgresAddress


class SettingError(DatalakeError):
    """An environment variable is missing or holds a value that cannot be used."""


@dataclass(frozen=True)
class Variable:
    """One environment variable.

    Attributes:
        name: The name as operators know it.
        purpose: What it is for, as it appears in errors, `datalake doctor` and `.env.example`.
        default: Used when the variable is unset or empty; None means there is none.
        secret: The value is never shown.
        choices: The values allowed, if they are few.
    """

    name: str
    purpose: str
    default: str | None = None
    secret: bool = False
    choices: tuple[str, ...] = ()


VARIABLES: Final[tuple[Variable, ...]] = (
    Variable("DATALAKE_HOME", "folder for the embedded PostgreSQL, the lake and Dagster's files", ".datalake"),
    Variable("DATALAKE_TODAY", "rehearse this day (YYYY-MM-DD) instead of following the clock"),
    Variable(
        "DATALAKE_SCHEDULES",
        "whether schedules start running or stopped",
        "stopped",
        choices=("running", "stopped"),
    ),
    Variable("DATALAKE_CRASH_AT", "name of a step before which the process kills itself (tests of recovery only)"),
    Variable(
        "DATALAKE_DAGSTER_PG_URL",
        "address of Dagster's own storage; set by the `datalake` command",
        secret=True,
    ),
    Variable("DATALAKE_COMPUTE_LOGS", "folder for captured output of runs; set by the `datalake` command"),
    Variable("DATALAKE_ARTIFACTS", "folder for Dagster's local artifacts; set by the `datalake` command"),
    Variable("DATALAKE_GIT_URL", "web address of the repository, for links from the UI to the code"),
    Variable(
        "LAKE_URL",
        "where landing snapshots are kept: a folder or an object store (default: lake in DATALAKE_HOME)",
    ),
    Variable("DUCKDB_FILE", "file of the analytical copies (default: analysis.duckdb in DATALAKE_HOME)"),
    Variable("LAKE_START_DATE", "first load date (YYYY-MM-DD) that partitions exist for", "2025-01-01"),
    Variable(
        "LAKE_MAX_FAILED_SHARE",
        "largest share of keys without a trustworthy answer that a load may have",
        "0.01",
    ),
    Variable("LAKE_MAX_QUARANTINED_SHARE", "largest share of documents that may go to quarantine in a load", "0.05"),
    Variable(
        "LAKE_MAX_EMPTY_SHARE",
        "largest share of empty objects in an answer of SnapLogic that may still show which courses are gone",
        "0.005",
    ),
    Variable(
        "LAKE_MAX_WITHOUT_TERMS_SHARE",
        "largest share of students, and of teachers, who are believed to have no terms",
        "0.50",
    ),
    Variable("LAKE_MAX_REMOVED_SHARE", "largest share of keys that one load may remove", "0.20"),
    Variable("POSTGRES_HOST", "PostgreSQL server of the lake; unset: an embedded server is started"),
    Variable("POSTGRES_PORT", "port of the PostgreSQL server", "5432"),
    Variable("POSTGRES_DB", "database of the lake", "datalake"),
    Variable("POSTGRES_USER", "role that loads the lake"),
    Variable("POSTGRES_PASS", "password of POSTGRES_USER", secret=True),
    Variable(
        "POSTGRES_SSLMODE",
        "TLS towards PostgreSQL (default: verify-full, or disable on this machine)",
        choices=("disable", "prefer", "require", "verify-full"),
    ),
    Variable("POSTGRES_CA", "file with the certificate authority of the PostgreSQL server"),
    Variable("DAGSTER_POSTGRES_DB", "database of Dagster's own storage on the same server", "datalake_dagster"),
    Variable("HTTP_USER_AGENT", "User-Agent sent to every source", "datalake-assets"),
    Variable("HTTP_BACKOFF_FACTOR", "share of the usual wait before a request is repeated; rehearsals wait less", "1"),
    Variable(
        "CS_ENV",
        "Campus Solutions environment that sources are asked for",
        "prd",
        choices=("ptst", "prd", "test", "prod"),
    ),
    Variable("DE_CSTOOLS_ENDPOINT", "address of CS Tools, the query wrapper; set: used instead of PEOPLE_SOFT_*"),
    Variable("DE_CSTOOLS_KEY", "API key of CS Tools", secret=True),
    Variable("DE_CSTOOLS_CA_BUNDLE", "file with the certificate authority of CS Tools"),
    Variable("PEOPLE_SOFT_URL", "address of PeopleSoft's Query Access Service, e.g. https://csprd.example.edu"),
    Variable("PEOPLE_SOFT_USER", "user of PeopleSoft's Query Access Service"),
    Variable("PEOPLE_SOFT_PASS", "password of PEOPLE_SOFT_USER", secret=True),
    Variable("PEOPLE_SOFT_NODE", "node of PeopleSoft's Query Access Service", "PSFT_CS"),
    Variable(
        "PEOPLE_SOFT_ROW_CAP",
        "the PeopleSoft user's maximum rows to fetch; an answer of exactly that many is refused",
    ),
    Variable("PEOPLE_SOFT_CA_BUNDLE", "file with the certificate authority of PeopleSoft"),
    Variable("SNAPLOGIC_PERSON_URL", "address of the SnapLogic person task"),
    Variable("SNAPLOGIC_PERSON_KEY", "API key of the SnapLogic person task", secret=True),
    Variable("SNAPLOGIC_COURSE_URL", "address of the SnapLogic course task"),
    Variable("SNAPLOGIC_COURSE_KEY", "API key of the SnapLogic course task", secret=True),
    Variable("SNAPLOGIC_CA_BUNDLE", "file with the certificate authority of SnapLogic"),
    Variable("DE_PERSON_API_URL", "address of the Data Engineering person API"),
    Variable("DE_PERSON_API_KEY", "API key of the Data Engineering person API", secret=True),
    Variable("DE_PERSON_API_CA_BUNDLE", "file with the certificate authority of the person API"),
    Variable("VDS_URL", "address of the virtual directory (VDS)"),
    Variable("VDS_KEY", "bearer key of VDS; alternatively VDS_USERNAME and VDS_PASSWORD", secret=True),
    Variable("VDS_USERNAME", "user of VDS, a DN, where VDS_KEY is not used; needs VDS_BASE_DN"),
    Variable("VDS_PASSWORD", "password of VDS_USERNAME", secret=True),
    Variable("VDS_BASE_DN", "base DN of searches; set: VDS_URL is the directory's own REST interface (ADAP)"),
    Variable(
        "VDS_SIZE_LIMIT",
        "entries that VDS is asked for at most where VDS_BASE_DN is not set; an answer of that many is refused",
        "25000",
    ),
    Variable("VDS_CA_BUNDLE", "file with the certificate authority of VDS"),
    Variable("SAP_URL", "address of the SAP employee list"),
    Variable("SAP_KEY", "API key of the SAP employee list", secret=True),
    Variable("SAP_ACTIVE_STATUS", "EMP_STATUS of the employees who count, as SAP writes it", "3 - Active"),
    Variable("SAP_CA_BUNDLE", "file with the certificate authority of SAP"),
    Variable("SOURCE_DATAHUB_URL", "address of the API that the declared datasets come from"),
    Variable(
        "SOURCE_DATAHUB_AUTH",
        "how that API knows its clients",
        "hawk",
        choices=("none", "basic", "bearer", "api_key", "hawk"),
    ),
    Variable("SOURCE_DATAHUB_ID", "user or Hawk id at that API"),
    Variable("SOURCE_DATAHUB_KEY", "password, token, API key or Hawk key at that API", secret=True),
    Variable("SOURCE_DATAHUB_KEY_HEADER", "header that carries an API key to that API", "x-api-key"),
    Variable("SOURCE_DATAHUB_REDIRECT_HOSTS", "hosts, with commas between, to which its redirects may lead"),
    Variable("SOURCE_DATAHUB_CA_BUNDLE", "file with the certificate authority of that API"),
    Variable(
        "SOURCE_NYC_TLC_URL",
        "address of the monthly files of taxi trips",
        "https://github.com/DataTalksClub/nyc-tlc-data/releases/download",
    ),
    Variable(
        "SOURCE_NYC_TLC_REDIRECT_HOSTS",
        "hosts, with commas between, to which redirects of that address may lead",
        "objects.githubusercontent.com,release-assets.githubusercontent.com",
    ),
    Variable("DATALAKE_UI_URL", "web address of the Dagster UI, for links in notifications"),
    Variable(
        "NOTIFY_WEBHOOK_URLS",
        'webhooks that take {"text": ...}: one address, or name=address pairs with blanks between; '
        "the one named default is told of everything that has no route",
        secret=True,
    ),
    Variable("NOTIFY_EMAIL_TO", "mail addresses, with commas between, told of everything that has no route"),
    Variable(
        "NOTIFY_ROUTES",
        "who is told instead, by owner: owner=webhook,address entries with blanks between, "
        "e.g. team:registrar=registrar,terms@example.edu",
    ),
    Variable("NOTIFY_SMTP_HOST", "mail server that takes notifications"),
    Variable("NOTIFY_SMTP_PORT", "port of the mail server; 465 speaks TLS at once, others by STARTTLS", "587"),
    Variable("NOTIFY_SMTP_USER", "user of the mail server; unset: no logon"),
    Variable("NOTIFY_SMTP_PASS", "password of NOTIFY_SMTP_USER", secret=True),
    Variable("NOTIFY_SMTP_FROM", "mail address that notifications come from"),
    Variable("NOTIFY_SMTP_CA_BUNDLE", "file with the certificate authority of the mail server"),
    Variable("NOTIFY_QUARANTINE_GROWTH", "how many more documents in quarantine are tolerated without a message", "0"),
)

_BY_NAME: Final = {variable.name: variable for variable in VARIABLES}

_SOURCE: Final = re.compile(
    r"SOURCE_(?P<name>[A-Z][A-Z0-9_]*?)_(?P<what>URL|AUTH|ID|KEY|KEY_HEADER|REDIRECT_HOSTS|CA_BUNDLE)"
)
"""Variables of sources that declared pipelines name; those of the pipelines that come with the project are listed."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class CsToolsSettings:
    """How CS Tools is reached."""

    endpoint: str
    key: SecretStr
    row_cap: int | None
    ca_bundle: str | None


@dataclass(frozen=True)
class QueryAccessSettings:
    """How PeopleSoft's Query Access Service is reached."""

    url: str
    node: str
    user: str
    password: SecretStr
    row_cap: int | None
    ca_bundle: str | None


@dataclass(frozen=True)
class PersonApiSettings:
    """How the Data Engineering person API is reached."""

    url: str
    key: SecretStr
    cs_env: str
    ca_bundle: str | None


@dataclass(frozen=True)
class SnapLogicPersonSettings:
    """How the SnapLogic person task is reached."""

    url: str
    key: SecretStr
    cs_env: str
    ca_bundle: str | None


@dataclass(frozen=True)
class SapSettings:
    """How SAP's employee list is reached, and which employees count."""

    url: str
    key: SecretStr
    active_status: str
    ca_bundle: str | None


@dataclass(frozen=True)
class VdsWrapperSettings:
    """How the wrapper before VDS is reached."""

    url: str
    key: SecretStr
    size_limit: int
    ca_bundle: str | None


@dataclass(frozen=True)
class VdsAdapSettings:
    """How VDS itself is reached, over ADAP: with a user and a password, or with a bearer token."""

    url: str
    base_dn: str
    basic: tuple[str, SecretStr] | None
    bearer: SecretStr | None
    ca_bundle: str | None


@dataclass(frozen=True)
class NamedSourceSettings:
    """How a source that declared pipelines name is reached.

    Attributes:
        name: The name.
        url: What paths are appended to.
        auth: `none`, `basic`, `bearer`, `api_key` or `hawk`.
        identity: User of `basic`, client id of `hawk`.
        key: Password, token or key; None with `none`.
        key_header: The header of `api_key`.
        redirect_hosts: Other hosts to which its redirects may lead, without credentials.
        ca_bundle: File or folder with the only authorities trusted.
    """

    name: str
    url: str
    auth: str
    identity: str
    key: SecretStr | None
    key_header: str
    redirect_hosts: tuple[str, ...]
    ca_bundle: str | None


@dataclass(frozen=True)
class CourseApiSettings:
    """How SnapLogic's course task is reached."""

    url: str
    key: SecretStr
    cs_env: str
    ca_bundle: str | None


class Settings:
    """The environment, checked value by value when asked for.

    Args:
        environment: Variables by name; names unknown to `VARIABLES` are ignored.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __repr__(self) -> str:
        return f"Settings({', '.join(sorted(name for name in _BY_NAME if self.is_set(name)))})"

    def is_set(self, name: str) -> bool:
        """Whether the variable has a value of its own."""
        return bool(self._environment.get(_variable(name).name, "").strip())

    def get(self, name: str) -> str | None:
        """The value or the default of a variable.

        Raises:
            SettingError: The value is not one of those allowed.
        """
        variable = _variable(name)
        value = self._environment.get(name, "").strip() or variable.default
        if value is not None and variable.choices and value not in variable.choices:
            raise SettingError(
                f"{name} is {value!r}; it must be one of {', '.join(variable.choices)}.",
                todo=f"Set {name} ({variable.purpose}).",
            )
        return value

    def require(self, name: str) -> str:
        """The value of a variable that something cannot do without.

        Raises:
            SettingError: It is not set.
        """
        value = self.get(name)
        if value is None:
            raise SettingError(
                f"{name} is not set: {_variable(name).purpose}.",
                todo=f"Set {name} in the environment or in .env; .env.example lists every variable.",
            )
        return value

    def secret(self, name: str) -> SecretStr:
        """The value of a secret variable.

        Raises:
            SettingError: It is not set.
        """
        return SecretStr(self.require(name))

    @property
    def home(self) -> Path:
        """Absolute folder for everything that is kept on this machine."""
        return Path(self.require("DATALAKE_HOME")).expanduser().absolute()

    @property
    def lake_url(self) -> str:
        """Folder or object-store address of the landing snapshots."""
        return self.get("LAKE_URL") or str(self.home / "lake")

    @property
    def duckdb_file(self) -> Path:
        """The analytical copy of declared files."""
        return Path(self.get("DUCKDB_FILE") or self.home / "analysis.duckdb")

    @property
    def spool_folder(self) -> Path:
        """Local folder for answered requests of unfinished loads."""
        return self.home / "spool"

    @property
    def start_date(self) -> date:
        """First load date."""
        return self._date("LAKE_START_DATE") or date(2025, 1, 1)

    @property
    def clock(self) -> Clock:
        """The clock to ask for today."""
        return Clock(self._date("DATALAKE_TODAY"))

    @property
    def schedules_run(self) -> bool:
        """Whether schedules start running."""
        return self.get("DATALAKE_SCHEDULES") == "running"

    @property
    def tolerances(self) -> Tolerances:
        """How much may be missing from a load."""
        return Tolerances(
            failed=self._share("LAKE_MAX_FAILED_SHARE"),
            quarantined=self._share("LAKE_MAX_QUARANTINED_SHARE"),
            removed=self._share("LAKE_MAX_REMOVED_SHARE"),
            without_terms=self._share("LAKE_MAX_WITHOUT_TERMS_SHARE"),
            empty=self._share("LAKE_MAX_EMPTY_SHARE"),
        )

    @property
    def uses_embedded_postgres(self) -> bool:
        """Whether the lake lives in the embedded server."""
        return not self.is_set("POSTGRES_HOST")

    def postgres(self) -> PostgresAddress:
        """The lake's database on the server that POSTGRES_HOST names.

        Raises:
            SettingError: A variable is missing or wrong.
        """
        return PostgresAddress(
            host=self.require("POSTGRES_HOST"),
            port=self._integer("POSTGRES_PORT", most=65_535),
            database=self.require("POSTGRES_DB"),
            user=self.require("POSTGRES_USER"),
            password=self.secret("POSTGRES_PASS"),
            sslmode=self.get("POSTGRES_SSLMODE"),
            ca=self.get("POSTGRES_CA"),
        )

    def peoplesoft(self) -> CsToolsSettings | QueryAccessSettings:
        """The way to PeopleSoft queries: CS Tools if its endpoint is set, else the Query Access Service.

        Raises:
            SettingError: A variable is missing or wrong.
        """
        if self.is_set("DE_CSTOOLS_ENDPOINT"):
            return CsToolsSettings(
                endpoint=self._url("DE_CSTOOLS_ENDPOINT"),
                key=self.secret("DE_CSTOOLS_KEY"),
                row_cap=self._row_cap,
                ca_bundle=self.get("DE_CSTOOLS_CA_BUNDLE"),
            )
        if not self.is_set("PEOPLE_SOFT_URL"):
            raise SettingError(
                "Neither DE_CSTOOLS_ENDPOINT nor PEOPLE_SOFT_URL is set, so PeopleSoft cannot be asked.",
                todo="Set DE_CSTOOLS_ENDPOINT and DE_CSTOOLS_KEY, or PEOPLE_SOFT_URL, PEOPLE_SOFT_USER and "
                "PEOPLE_SOFT_PASS; without a source of your own, `datalake demo` brings a simulator.",
            )
        return QueryAccessSettings(
            url=self._url("PEOPLE_SOFT_URL"),
            node=self.require("PEOPLE_SOFT_NODE"),
            user=self.require("PEOPLE_SOFT_USER"),
            password=self.secret("PEOPLE_SOFT_PASS"),
            row_cap=self._row_cap,
            ca_bundle=self.get("PEOPLE_SOFT_CA_BUNDLE"),
        )

    def person_api(self) -> PersonApiSettings | SnapLogicPersonSettings:
        """The way to person documents: the Data Engineering person API if its address is set, else SnapLogic.

        Raises:
            SettingError: A variable is missing or wrong.
        """
        if self.is_set("DE_PERSON_API_URL"):
            return PersonApiSettings(
                url=self._url("DE_PERSON_API_URL"),
                key=self.secret("DE_PERSON_API_KEY"),
                cs_env=self.require("CS_ENV"),
                ca_bundle=self.get("DE_PERSON_API_CA_BUNDLE"),
            )
        if not self.is_set("SNAPLOGIC_PERSON_URL"):
            raise SettingError(
                "Neither DE_PERSON_API_URL nor SNAPLOGIC_PERSON_URL is set, so person documents cannot be asked for.",
                todo="Set DE_PERSON_API_URL and DE_PERSON_API_KEY, or SNAPLOGIC_PERSON_URL and SNAPLOGIC_PERSON_KEY; "
                "without a source of your own, `datalake demo` brings a simulator.",
            )
        return SnapLogicPersonSettings(
            url=self._url("SNAPLOGIC_PERSON_URL"),
            key=self.secret("SNAPLOGIC_PERSON_KEY"),
            cs_env=self.require("CS_ENV"),
            ca_bundle=self.get("SNAPLOGIC_CA_BUNDLE"),
        )

    def sap(self) -> SapSettings:
        """The way to SAP's employee list.

        Raises:
            SettingError: A variable is missing or wrong.
        """
        return SapSettings(
            url=self._url("SAP_URL"),
            key=self.secret("SAP_KEY"),
            active_status=self.require("SAP_ACTIVE_STATUS"),
            ca_bundle=self.get("SAP_CA_BUNDLE"),
        )

    def vds(self) -> VdsWrapperSettings | VdsAdapSettings:
        """The way to VDS: its own interface if a base DN is set, else the wrapper. A key goes before a user.

        Raises:
            SettingError: A variable is missing or wrong.
        """
        url, ca_bundle = self._url("VDS_URL"), self.get("VDS_CA_BUNDLE")
        if self.is_set("VDS_KEY"):
            key = self.secret("VDS_KEY")
            if not self.is_set("VDS_BASE_DN"):
                return VdsWrapperSettings(url, key, self._integer("VDS_SIZE_LIMIT"), ca_bundle)
            return VdsAdapSettings(url, self.require("VDS_BASE_DN"), None, key, ca_bundle)
        if not self.is_set("VDS_USERNAME"):
            raise SettingError(
                "Neither VDS_KEY nor VDS_USERNAME is set; without a logon, VDS answers as for anybody.",
                todo="Set VDS_KEY for the wrapper, or VDS_USERNAME, VDS_PASSWORD and VDS_BASE_DN for VDS itself.",
            )
        basic = (self.require("VDS_USERNAME"), self.secret("VDS_PASSWORD"))
        return VdsAdapSettings(url, self.require("VDS_BASE_DN"), basic, None, ca_bundle)

    @property
    def named_sources(self) -> list[str]:
        """Names of the sources that are set up for declared pipelines."""
        found = (_SOURCE.fullmatch(name) for name in sorted(self._environment) if self._environment[name].strip())
        return [match["name"].lower() for match in found if match and match["what"] == "URL"]

    def named_source(self, name: str) -> NamedSourceSettings:
        """The way to a source that declared pipelines name, from variables that begin with `SOURCE_<NAME>_`.

        Args:
            name: In lower case, as it stands in a `defs.yaml`.

        Raises:
            SettingError: The name is none, or a variable is missing or wrong.
        """
        if not _NAME.fullmatch(name):
            raise SettingError(
                f"{name!r} is no name of a source: it must consist of small letters, digits and underscores.",
                todo="Correct `resource` in the defs.yaml.",
            )
        prefix = f"SOURCE_{name.upper()}"
        auth = self.require(f"{prefix}_AUTH")
        return NamedSourceSettings(
            name=name,
            url=self._url(f"{prefix}_URL"),
            auth=auth,
            identity=self.require(f"{prefix}_ID") if auth in ("basic", "hawk") else "",
            key=None if auth == "none" else self.secret(f"{prefix}_KEY"),
            key_header=self.require(f"{prefix}_KEY_HEADER"),
            redirect_hosts=tuple(self._parts(f"{prefix}_REDIRECT_HOSTS", ",")),
            ca_bundle=self.get(f"{prefix}_CA_BUNDLE"),
        )

    def course_api(self) -> CourseApiSettings:
        """The way to SnapLogic's course task.

        Raises:
            SettingError: A variable is missing or wrong.
        """
        return CourseApiSettings(
            url=self._url("SNAPLOGIC_COURSE_URL"),
            key=self.secret("SNAPLOGIC_COURSE_KEY"),
            cs_env=self.require("CS_ENV"),
            ca_bundle=self.get("SNAPLOGIC_CA_BUNDLE"),
        )

    def notify(self) -> Routes:
        """Who is told of troubles, and where.

        Raises:
            SettingError: A variable is missing or wrong.
        """
        webhooks = self._webhooks()
        default = [f"{WEBHOOK}default"] if "default" in webhooks else []
        default += [f"{MAIL}{self._mail('NOTIFY_EMAIL_TO', text)}" for text in self._parts("NOTIFY_EMAIL_TO", ",")]
        by_owner: dict[str, tuple[str, ...]] = {}
        for entry in self._parts("NOTIFY_ROUTES", None):
            owner, _, names = entry.rpartition("=")
            channels = [self._channel(name.strip(), webhooks) for name in names.split(",") if name.strip()]
            if not owner or not channels or owner in by_owner:
                raise self._wrong("NOTIFY_ROUTES", "must name each owner once, as owner=webhook,address")
            by_owner[owner] = tuple(channels)
        mailed = any(channel.startswith(MAIL) for many in (default, *by_owner.values()) for channel in many)
        return Routes(
            webhooks=webhooks,
            mail=self._mail_server() if mailed else None,
            default=tuple(default),
            by_owner=by_owner,
            ui_url=self._url("DATALAKE_UI_URL") if self.is_set("DATALAKE_UI_URL") else None,
        )

    @property
    def quarantine_growth(self) -> int:
        """How many more documents in quarantine are no news."""
        value = self.require("NOTIFY_QUARANTINE_GROWTH")
        if not value.isdecimal() or len(value) > 9:
            raise self._wrong("NOTIFY_QUARANTINE_GROWTH", "must be a whole number from 0")
        return int(value)

    def _webhooks(self) -> dict[str, SecretStr]:
        webhooks: dict[str, SecretStr] = {}
        for entry in self._parts("NOTIFY_WEBHOOK_URLS", None):
            name, _, address = entry.partition("=")
            if "://" in name:  # an address without a name, whose query may hold the sign
                name, address = "default", entry
            if not name or "@" in name or name in webhooks or not _is_plain_url(address):
                raise self._wrong(
                    "NOTIFY_WEBHOOK_URLS", "must hold addresses such as https://host/path, each named once"
                )
            webhooks[name] = SecretStr(address)
        return webhooks

    def _mail_server(self) -> MailServer:
        user = self.get("NOTIFY_SMTP_USER")
        return MailServer(
            host=self.require("NOTIFY_SMTP_HOST"),
            port=self._integer("NOTIFY_SMTP_PORT", most=65_535),
            sender=self._mail("NOTIFY_SMTP_FROM", self.require("NOTIFY_SMTP_FROM")),
            user=user,
            password=self.secret("NOTIFY_SMTP_PASS") if user else None,
            ca_bundle=self.get("NOTIFY_SMTP_CA_BUNDLE"),
        )

    def _channel(self, name: str, webhooks: Mapping[str, SecretStr]) -> str:
        if "@" in name:
            return f"{MAIL}{self._mail('NOTIFY_ROUTES', name)}"
        if name not in webhooks:
            raise self._wrong("NOTIFY_ROUTES", f"names webhook {name!r}, which NOTIFY_WEBHOOK_URLS does not have")
        return f"{WEBHOOK}{name}"

    def _mail(self, name: str, text: str) -> str:
        if not _MAIL.fullmatch(text):
            raise self._wrong(name, "must hold plain mail addresses such as data@example.edu")
        return text

    def _parts(self, name: str, separator: str | None) -> list[str]:
        return [part.strip() for part in (self.get(name) or "").split(separator) if part.strip()]

    @staticmethod
    def _wrong(name: str, rule: str) -> SettingError:
        return SettingError(f"{name} {rule}.", todo=f"Set {name} ({_BY_NAME[name].purpose}).")

    @property
    def backoff_factor(self) -> float:
        """Share of the usual wait before a request is repeated.

        Raises:
            SettingError: It is no share.
        """
        return self._share("HTTP_BACKOFF_FACTOR")

    @property
    def has_sources(self) -> bool:
        """Whether any source system is configured."""
        return any(
            self.is_set(name)
            for name in (
                "DE_CSTOOLS_ENDPOINT",
                "PEOPLE_SOFT_URL",
                "SNAPLOGIC_COURSE_URL",
                "DE_PERSON_API_URL",
            )
        )

    @property
    def _row_cap(self) -> int | None:
        return self._integer("PEOPLE_SOFT_ROW_CAP") if self.is_set("PEOPLE_SOFT_ROW_CAP") else None

    def _date(self, name: str) -> date | None:
        value = self.get(name)
        if value is None:
            return None
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise SettingError(
                f"{name} is {value!r}; it must be a date such as 2026-01-31.",
                todo=f"Set {name} ({_BY_NAME[name].purpose}).",
            ) from None

    def _integer(self, name: str, most: int = 2**31 - 1) -> int:
        value = self.require(name)
        if not value.isdecimal() or not 1 <= int(value[:20]) <= most:
            raise SettingError(
                f"{name} is {value!r}; it must be a whole number from 1 to {most}.",
                todo=f"Set {name} ({_BY_NAME[name].purpose}).",
            )
        return int(value)

    def _share(self, name: str) -> float:
        value = self.require(name)
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise SettingError(
                f"{name} is {value!r}; it must be a share from 0 to 1, such as 0.05.",
                todo=f"Set {name} ({_BY_NAME[name].purpose}).",
            )
        return share

    def _url(self, name: str) -> str:
        value = self.require(name)
        if not _is_plain_url(value):
            raise SettingError(
                f"{name} is not a usable address; it must look like https://host/path, without user or password in it.",
                todo=f"Set {name} ({_variable(name).purpose}).",
            )
        return value


def _variable(name: str) -> Variable:
    """What is known of a variable; those of any named source are those of DATAHUB, without its way of logging on."""
    known = _BY_NAME.get(name)
    if known is None and (match := _SOURCE.fullmatch(name)):
        like = _BY_NAME[f"SOURCE_DATAHUB_{match['what']}"]
        source = match["name"].lower()
        purpose = like.purpose.replace("the API that the declared datasets come from", f"the source {source!r}")
        purpose = purpose.replace("that API", f"the source {source!r}")
        return replace(like, name=name, purpose=purpose, default="none" if match["what"] == "AUTH" else like.default)
    return _BY_NAME[name]


_MAIL: Final = re.compile(r"[\w.+%\-]{1,64}@[\w\-]+(\.[\w\-]+)*", re.ASCII)


def _is_plain_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # reading the port checks it
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and "@" not in parts.netloc


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the process environment over the `.env` file of the current folder.

    Args:
        environment: Taken instead of both, for tests and embedding.
    """
    if environment is None:
        environment = {key: value or "" for key, value in dotenv_values(".env").items()} | dict(os.environ)
    return Settings(environment)


def export(additions: Mapping[str, str]) -> None:
    """Set variables for this process and the processes it starts."""
    os.environ.update(additions)


def project_files() -> Path:
    """The folder that holds `sql/`, `dagster.yaml` and `workspace.yaml`: the checkout, or the installed copy."""
    package = Path(__file__).parent
    checkout = package.parent
    return checkout if (checkout / "sql" / "migrations").is_dir() else package / "_project"
