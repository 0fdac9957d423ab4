"""The invented secrets by which the simulated systems know their clients.

They follow from the seed, so that a simulator that is started again accepts the same clients. How an endpoint
checks them belongs to the endpoint; the token of the control is drawn anew at every start (`server.py`).
"""

from base64 import b64encode
from dataclasses import dataclass

from datalake_assets.simulator.population import Dice


@dataclass(frozen=True, repr=False)
class Credentials:
    """What clients must present.

    Attributes:
        cstools_key: API key of CS Tools.
        peoplesoft_user: User of the Query Access Service.
        peoplesoft_password: Password of that user.
        snaplogic_course_key: API key of SnapLogic's course task.
        snaplogic_person_key: API key of SnapLogic's person task.
        personapi_key: API key of the Data Engineering Person API.
        sap_key: API key of SAP's list of employees.
        vds_key: Bearer key of VDS.
        vds_user: DN of a user of VDS.
        vds_password: Password of that user.
        datahub_id: Hawk id of a client of the datasets.
        datahub_key: Hawk key of that client.
    """

    cstools_key: str
    peoplesoft_user: str
    peoplesoft_password: str
    snaplogic_course_key: str
    snaplogic_person_key: str
    personapi_key: str
    sap_key: str
    vds_key: str
    vds_user: str
    vds_password: str
    datahub_id: str
    datahub_key: str

    @classmethod
    def of(cls, seed: int) -> "Credentials":
        """The credentials of a seed."""
        dice = Dice(seed)
        return cls(
            cstools_key="simulated-" + dice.text(24, "cstools key"),
            peoplesoft_user="SIM_QAS_USER",
            peoplesoft_password="simulated-" + dice.text(24, "peoplesoft password"),
            snaplogic_course_key="simulated-" + dice.text(24, "snaplogic course key"),
            snaplogic_person_key="simulated-" + dice.text(24, "snaplogic person key"),
            personapi_key="simulated-" + dice.text(24, "person api key"),
            sap_key="simulated-" + dice.text(24, "sap key"),
            vds_key="simulated-" + dice.text(24, "vds key"),
            vds_user="uid=simulated,ou=services,dc=example,dc=edu",
            vds_password="simulated-" + dice.text(24, "vds password"),
            datahub_id="simulated-client",
            datahub_key="simulated-" + dice.text(24, "datahub key"),
        )

    @property
    def basic(self) -> str:
        """The value of an Authorization header that the Query Access Service accepts, after `Basic `."""
        return b64encode(f"{self.peoplesoft_user}:{self.peoplesoft_password}".encode()).decode()

    @property
    def vds_basic(self) -> str:
        """The value of an Authorization header that VDS accepts, after `Basic `."""
        return b64encode(f"{self.vds_user}:{self.vds_password}".encode()).decode()

    def secrets(self) -> tuple[str, ...]:
        """Everything that must never stand in an address."""
        return (
            self.cstools_key,
            self.peoplesoft_password,
            self.basic,
            self.snaplogic_course_key,
            self.snaplogic_person_key,
            self.personapi_key,
            self.sap_key,
            self.vds_key,
            self.vds_password,
            self.vds_basic,
            self.datahub_key,
        )
