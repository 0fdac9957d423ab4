"""The environment: every property, every bad value with what it says, and no secret in anything that is shown."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from datalake_assets.settings import (
    VARIABLES,
    CsToolsSettings,
    PersonApiSettings,
    QueryAccessSettings,
    SettingError,
    Settings,
    SnapLogicPersonSettings,
    VdsAdapSettings,
    VdsWrapperSettings,
    load_settings,
    project_files,
)

SECRET = "canary-5f2a"
POSTGRES = {"POSTGRES_HOST": "db.example.edu", "POSTGRES_USER": "loader", "POSTGRES_PASS": SECRET}
CS_TOOLS = {"DE_CSTOOLS_ENDPOINT": "https://cs.example.edu/query", "DE_CSTOOLS_KEY": SECRET}
PEOPLE_SOFT = {
    "PEOPLE_SOFT_URL": "https://ps.example.edu",
    "PEOPLE_SOFT_USER": "reader",
    "PEOPLE_SOFT_PASS": SECRET,
}
PERSON_API = {"DE_PERSON_API_URL": "https://api.example.edu/person", "DE_PERSON_API_KEY": SECRET}
SNAPLOGIC_PERSON = {"SNAPLOGIC_PERSON_URL": "https://snap.example.edu/person", "SNAPLOGIC_PERSON_KEY": SECRET}
SAP = {"SAP_URL": "https://sap.example.edu/hr", "SAP_KEY": SECRET}
VDS_USER = {"VDS_USERNAME": "cn=reader", "VDS_PASSWORD": SECRET, "VDS_BASE_DN": "ou=people,dc=example"}
VDS = {"VDS_URL": "https://vds.example.edu"}


def value_of(settings: Settings, name: str) -> Any:
    value = getattr(settings, name)
    return value() if callable(value) else value


# --------------------------------------------------------------------------------------------------- values


def test_an_empty_environment_has_every_default() -> None:
    """The demo and the loading of definitions need no variable at all."""
    settings = Settings({})
    assert settings.home == Path.cwd() / ".datalake"
    assert settings.lake_url == str(Path.cwd() / ".datalake" / "lake")
    assert settings.spool_folder == Path.cwd() / ".datalake" / "spool"
    assert settings.start_date == date(2025, 1, 1)
    assert settings.clock.rehearsed is None
    assert settings.schedules_run is False
    assert settings.uses_embedded_postgres is True
    assert settings.has_sources is False
    assert (settings.tolerances.failed, settings.tolerances.quarantined, settings.tolerances.removed) == (
        0.01,
        0.05,
        0.20,
    )


@pytest.mark.parametrize(
    ("environment", "name", "value"),
    [
        ({"DATALAKE_HOME": "/srv/lake"}, "home", Path("/srv/lake")),
        ({"DATALAKE_HOME": "~/lake"}, "home", Path.home() / "lake"),
        ({"DATALAKE_HOME": "/srv/lake"}, "lake_url", "/srv/lake/lake"),
        ({"DATALAKE_HOME": "/srv/lake"}, "spool_folder", Path("/srv/lake/spool")),
        ({"LAKE_URL": "s3://bucket/lake"}, "lake_url", "s3://bucket/lake"),
        ({"LAKE_START_DATE": "2024-08-01"}, "start_date", date(2024, 8, 1)),
        ({"DATALAKE_SCHEDULES": "running"}, "schedules_run", True),
        ({"DATALAKE_SCHEDULES": "stopped"}, "schedules_run", False),
        ({"POSTGRES_HOST": "db"}, "uses_embedded_postgres", False),
        ({"POSTGRES_HOST": "  "}, "uses_embedded_postgres", True),
        ({"PEOPLE_SOFT_URL": "https://x"}, "has_sources", True),
    ],
)
def test_a_value_is_taken_as_it_is_set(environment: dict[str, str], name: str, value: Any) -> None:
    assert value_of(Settings(environment), name) == value


def test_the_rehearsed_day_reaches_the_clock() -> None:
    assert Settings({"DATALAKE_TODAY": "2026-03-08"}).clock.today() == date(2026, 3, 8)


def test_tolerances_are_shares() -> None:
    tolerances = Settings(
        {"LAKE_MAX_FAILED_SHARE": "0", "LAKE_MAX_QUARANTINED_SHARE": "1", "LAKE_MAX_REMOVED_SHARE": ".5"}
    ).tolerances
    assert (tolerances.failed, tolerances.quarantined, tolerances.removed) == (0, 1, 0.5)


def test_an_empty_value_counts_as_unset() -> None:
    """A line `POSTGRES_PORT=` of an .env file means the default."""
    assert Settings(POSTGRES | {"POSTGRES_PORT": ""}).postgres().port == 5432


def test_the_address_of_the_server_has_safe_defaults() -> None:
    address = Settings(POSTGRES).postgres()
    assert (address.host, address.port, address.database, address.user) == (
        "db.example.edu",
        5432,
        "datalake",
        "loader",
    )
    assert address.sslmode == "verify-full"
    assert address.password.get_secret_value() == SECRET


def test_cs_tools_is_used_when_its_endpoint_is_set() -> None:
    chosen = Settings(CS_TOOLS | PEOPLE_SOFT | {"PEOPLE_SOFT_ROW_CAP": "5000"}).peoplesoft()
    assert isinstance(chosen, CsToolsSettings)
    assert (chosen.endpoint, chosen.row_cap) == ("https://cs.example.edu/query", 5000)


def test_the_query_access_service_is_used_otherwise() -> None:
    chosen = Settings(PEOPLE_SOFT | {"PEOPLE_SOFT_CA_BUNDLE": "/etc/ca.pem"}).peoplesoft()
    assert isinstance(chosen, QueryAccessSettings)
    assert (chosen.url, chosen.node, chosen.user, chosen.row_cap, chosen.ca_bundle) == (
        "https://ps.example.edu",
        "PSFT_CS",
        "reader",
        None,
        "/etc/ca.pem",
    )


def test_the_person_api_is_used_when_its_address_is_set() -> None:
    chosen = Settings(PERSON_API | SNAPLOGIC_PERSON | {"CS_ENV": "test"}).person_api()
    assert isinstance(chosen, PersonApiSettings)
    assert (chosen.url, chosen.cs_env, chosen.ca_bundle) == ("https://api.example.edu/person", "test", None)
    assert chosen.key.get_secret_value() == SECRET


def test_snaplogic_is_asked_for_persons_otherwise() -> None:
    chosen = Settings(SNAPLOGIC_PERSON | {"SNAPLOGIC_CA_BUNDLE": "/etc/ca.pem"}).person_api()
    assert isinstance(chosen, SnapLogicPersonSettings)
    assert (chosen.url, chosen.cs_env, chosen.ca_bundle) == ("https://snap.example.edu/person", "prd", "/etc/ca.pem")


def test_snaplogic_is_asked_for_courses_of_the_environment_that_is_set() -> None:
    course = {"SNAPLOGIC_COURSE_URL": "https://snap.example.edu/course", "SNAPLOGIC_COURSE_KEY": SECRET}
    chosen = Settings(course | {"CS_ENV": "test"}).course_api()
    assert (chosen.url, chosen.cs_env, chosen.ca_bundle) == ("https://snap.example.edu/course", "test", None)
    assert chosen.key.get_secret_value() == SECRET
    assert SECRET not in repr(chosen)
    assert Settings(course | {"SNAPLOGIC_CA_BUNDLE": "/etc/ca.pem"}).course_api().ca_bundle == "/etc/ca.pem"
    with pytest.raises(SettingError, match="SNAPLOGIC_COURSE_URL is not set"):
        Settings({}).course_api()


def test_which_employees_count_can_be_set() -> None:
    """Fault P14: the text was a literal in the code."""
    assert Settings(SAP).sap().active_status == "3 - Active"
    chosen = Settings(SAP | {"SAP_ACTIVE_STATUS": "Aktiv", "SAP_CA_BUNDLE": "/etc/ca.pem"}).sap()
    assert (chosen.url, chosen.active_status, chosen.ca_bundle) == (
        "https://sap.example.edu/hr",
        "Aktiv",
        "/etc/ca.pem",
    )


def test_the_directory_is_asked_through_its_wrapper_or_itself() -> None:
    """Fault P19: one file named a key, another a user, and only one of them was read."""
    with_key = Settings(VDS | {"VDS_KEY": SECRET, "VDS_USERNAME": "cn=reader", "VDS_SIZE_LIMIT": "40000"}).vds()
    assert isinstance(with_key, VdsWrapperSettings)
    assert (with_key.url, with_key.size_limit, with_key.ca_bundle) == ("https://vds.example.edu", 40_000, None)
    with_user = Settings(VDS | VDS_USER | {"VDS_CA_BUNDLE": "/etc/ca.pem"}).vds()
    assert isinstance(with_user, VdsAdapSettings)
    assert with_user.basic is not None
    assert (with_user.base_dn, with_user.basic[0], with_user.bearer) == ("ou=people,dc=example", "cn=reader", None)
    assert with_user.ca_bundle == "/etc/ca.pem"
    with_token = Settings(VDS | VDS_USER | {"VDS_KEY": SECRET}).vds()
    assert isinstance(with_token, VdsAdapSettings)
    assert (with_token.basic, with_token.bearer) == (None, SecretStr(SECRET))


def test_a_named_source_is_reached_as_its_own_variables_say() -> None:
    hub = {"SOURCE_DATAHUB_URL": "https://hub.example.edu", "SOURCE_DATAHUB_ID": "lake", "SOURCE_DATAHUB_KEY": SECRET}
    chosen = Settings(hub).named_source("datahub")
    assert (chosen.url, chosen.auth, chosen.identity) == ("https://hub.example.edu", "hawk", "lake")
    assert chosen.key == SecretStr(SECRET)
    assert SECRET not in repr(chosen)


def test_a_source_of_any_name_can_be_declared() -> None:
    """A new dataset from a new source takes variables and YAML, and no Python."""
    other = {
        "SOURCE_CITY_PARKING_URL": "https://parking.example.edu",
        "SOURCE_CITY_PARKING_AUTH": "api_key",
        "SOURCE_CITY_PARKING_KEY": SECRET,
        "SOURCE_CITY_PARKING_KEY_HEADER": "x-parking",
        "SOURCE_CITY_PARKING_CA_BUNDLE": "/etc/ca.pem",
        "SOURCE_CITY_PARKING_REDIRECT_HOSTS": "a.example.edu, b.example.edu",
    }
    chosen = Settings(other).named_source("city_parking")
    assert (chosen.auth, chosen.key, chosen.key_header) == ("api_key", SecretStr(SECRET), "x-parking")
    assert (chosen.ca_bundle, chosen.redirect_hosts) == ("/etc/ca.pem", ("a.example.edu", "b.example.edu"))
    open_to_all = Settings({"SOURCE_WEATHER_URL": "https://weather.example.edu"}).named_source("weather")
    assert (open_to_all.auth, open_to_all.key) == ("none", None)


def test_the_sources_that_are_set_up_can_be_listed() -> None:
    """`datalake doctor` looks at each of them."""
    given = {
        "SOURCE_WEATHER_URL": "https://w",
        "SOURCE_A_B_URL": "https://x",
        "SOURCE_X_KEY": SECRET,
        "SOURCE_Y_URL": "",
    }
    assert Settings(given).named_sources == ["a_b", "weather"]


def test_the_taxi_files_have_a_real_address_by_default() -> None:
    chosen = Settings({}).named_source("nyc_tlc")
    assert chosen.url.startswith("https://github.com/")
    assert (chosen.auth, len(chosen.redirect_hosts)) == ("none", 2)


@pytest.mark.parametrize(
    ("environment", "name", "message"),
    [
        ({}, "datahub", "SOURCE_DATAHUB_URL is not set: address of the API"),
        ({"SOURCE_X_AUTH": "none"}, "x", "SOURCE_X_URL is not set: address of the source 'x'"),
        ({"SOURCE_X_URL": "https://x", "SOURCE_X_AUTH": "jwt"}, "x", "SOURCE_X_AUTH is 'jwt'; it must be one of none"),
        ({"SOURCE_X_URL": "https://x", "SOURCE_X_AUTH": "bearer"}, "x", "SOURCE_X_KEY is not set"),
        ({"SOURCE_X_URL": "https://x", "SOURCE_X_AUTH": "basic"}, "x", "SOURCE_X_ID is not set"),
        ({"SOURCE_X_URL": "x"}, "x", "SOURCE_X_URL is not a usable address"),
        ({}, "X", "'X' is no name of a source"),
        ({}, "../x", "is no name of a source"),
    ],
)
def test_a_named_source_that_cannot_be_reached_says_which_variable_is_wrong(
    environment: dict[str, str], name: str, message: str
) -> None:
    with pytest.raises(SettingError) as refusal:
        Settings(environment).named_source(name)
    assert message in str(refusal.value)
    assert "What to do:" in str(refusal.value)


# -------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("environment", "name", "message"),
    [
        ({"DATALAKE_SCHEDULES": "on"}, "schedules_run", "DATALAKE_SCHEDULES is 'on'; it must be one of running, stopp"),
        ({"LAKE_START_DATE": "31.01.2026"}, "start_date", "LAKE_START_DATE is '31.01.2026'; it must be a date such as"),
        ({"LAKE_START_DATE": "2026-02-30"}, "start_date", "LAKE_START_DATE is '2026-02-30'; it must be a date"),
        ({"DATALAKE_TODAY": "tomorrow"}, "clock", "DATALAKE_TODAY is 'tomorrow'; it must be a date"),
        ({"LAKE_MAX_FAILED_SHARE": "5%"}, "tolerances", "LAKE_MAX_FAILED_SHARE is '5%'; it must be a share from 0 to"),
        ({"LAKE_MAX_REMOVED_SHARE": "20"}, "tolerances", "LAKE_MAX_REMOVED_SHARE is '20'; it must be a share"),
        ({"LAKE_MAX_REMOVED_SHARE": "nan"}, "tolerances", "LAKE_MAX_REMOVED_SHARE is 'nan'; it must be a share"),
        ({"LAKE_MAX_QUARANTINED_SHARE": "-0.1"}, "tolerances", "LAKE_MAX_QUARANTINED_SHARE is '-0.1'"),
        (POSTGRES | {"POSTGRES_PORT": "54x"}, "postgres", "POSTGRES_PORT is '54x'; it must be a whole number from 1"),
        (POSTGRES | {"POSTGRES_PORT": "0"}, "postgres", "POSTGRES_PORT is '0'; it must be a whole number from 1 to 65"),
        (POSTGRES | {"POSTGRES_PORT": "65536"}, "postgres", "POSTGRES_PORT is '65536'"),
        (POSTGRES | {"POSTGRES_PORT": "-1"}, "postgres", "POSTGRES_PORT is '-1'"),
        (
            POSTGRES | {"POSTGRES_SSLMODE": "allow"},
            "postgres",
            "POSTGRES_SSLMODE is 'allow'; it must be one of",
        ),
        (PEOPLE_SOFT | {"PEOPLE_SOFT_ROW_CAP": "many"}, "peoplesoft", "PEOPLE_SOFT_ROW_CAP is 'many'"),
        (PEOPLE_SOFT | {"PEOPLE_SOFT_ROW_CAP": "0"}, "peoplesoft", "PEOPLE_SOFT_ROW_CAP is '0'"),
        (PEOPLE_SOFT | {"PEOPLE_SOFT_URL": "ps.example.edu"}, "peoplesoft", "PEOPLE_SOFT_URL is not a usable address"),
        (PEOPLE_SOFT | {"PEOPLE_SOFT_URL": "ftp://ps"}, "peoplesoft", "PEOPLE_SOFT_URL is not a usable address"),
        (PEOPLE_SOFT | {"PEOPLE_SOFT_URL": "https://[::1"}, "peoplesoft", "PEOPLE_SOFT_URL is not a usable address"),
        (PEOPLE_SOFT | {"PEOPLE_SOFT_URL": "https://ps:x/"}, "peoplesoft", "PEOPLE_SOFT_URL is not a usable address"),
        (CS_TOOLS | {"DE_CSTOOLS_ENDPOINT": "https:///query"}, "peoplesoft", "DE_CSTOOLS_ENDPOINT is not a usable"),
        (CS_TOOLS | {"DE_CSTOOLS_ENDPOINT": f"https://u:{SECRET}@cs/"}, "peoplesoft", "without user or password in it"),
        (CS_TOOLS | {"DE_CSTOOLS_ENDPOINT": f"https://:{SECRET}@cs/"}, "peoplesoft", "without user or password in it"),
        ({}, "postgres", "POSTGRES_HOST is not set: PostgreSQL server of the lake"),
        ({"POSTGRES_HOST": "db"}, "postgres", "POSTGRES_USER is not set: role that loads the lake"),
        ({}, "peoplesoft", "Neither DE_CSTOOLS_ENDPOINT nor PEOPLE_SOFT_URL is set"),
        ({"PEOPLE_SOFT_URL": "https://ps"}, "peoplesoft", "PEOPLE_SOFT_USER is not set: user of PeopleSoft's Query"),
        ({"DE_CSTOOLS_ENDPOINT": "https://cs"}, "peoplesoft", "DE_CSTOOLS_KEY is not set: API key of CS Tools"),
        ({}, "person_api", "Neither DE_PERSON_API_URL nor SNAPLOGIC_PERSON_URL is set"),
        ({"DE_PERSON_API_URL": "https://x"}, "person_api", "DE_PERSON_API_KEY is not set: API key of the Data Engine"),
        ({"SNAPLOGIC_PERSON_URL": "https://x"}, "person_api", "SNAPLOGIC_PERSON_KEY is not set: API key of the SnapL"),
        (PERSON_API | {"DE_PERSON_API_URL": "person"}, "person_api", "DE_PERSON_API_URL is not a usable address"),
        ({}, "sap", "SAP_URL is not set: address of the SAP employee list"),
        ({"SAP_URL": "https://x"}, "sap", "SAP_KEY is not set: API key of the SAP employee list"),
        ({"VDS_KEY": SECRET}, "vds", "VDS_URL is not set: address of the virtual directory"),
        (VDS, "vds", "Neither VDS_KEY nor VDS_USERNAME is set; without a logon, VDS answers as for anybody"),
        (VDS | {"VDS_USERNAME": "cn=x", "VDS_BASE_DN": "o=x"}, "vds", "VDS_PASSWORD is not set: password of VDS_USER"),
        (VDS | {"VDS_USERNAME": "cn=x", "VDS_PASSWORD": SECRET}, "vds", "VDS_BASE_DN is not set: base DN of searches"),
        (VDS | {"VDS_KEY": SECRET, "VDS_SIZE_LIMIT": "0"}, "vds", "VDS_SIZE_LIMIT is '0'; it must be a whole number"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(
    environment: dict[str, str], name: str, message: str
) -> None:
    with pytest.raises(SettingError) as refusal:
        value_of(Settings(environment), name)
    assert message in str(refusal.value)
    assert "What to do: Set " in str(refusal.value)
    assert SECRET not in repr(refusal.value)


@pytest.mark.parametrize("variable", [v for v in VARIABLES if v.default is None], ids=lambda variable: variable.name)
def test_a_missing_variable_is_named_with_what_it_is_for(variable: Any) -> None:
    with pytest.raises(SettingError) as refusal:
        Settings({}).require(variable.name)
    assert str(refusal.value).startswith(f"{variable.name} is not set: {variable.purpose}.")
    assert ".env.example" in str(refusal.value)


def test_a_bad_value_of_one_variable_does_not_disturb_another() -> None:
    """An operator who mistypes a tolerance can still run `datalake doctor`."""
    settings = Settings({"LAKE_MAX_FAILED_SHARE": "x", "LAKE_START_DATE": "2026-01-01"})
    assert settings.start_date == date(2026, 1, 1)


# --------------------------------------------------------------------------------------------------- secrets


def test_every_password_and_key_is_declared_secret() -> None:
    """A key that is not declared would be printed by `datalake doctor`."""
    names = {v.name for v in VARIABLES if v.name.endswith(("_KEY", "_PASS", "_PASSWORD", "_PG_URL", "_WEBHOOK_URLS"))}
    assert names == {v.name for v in VARIABLES if v.secret}


def test_secrets_do_not_show_in_any_text_of_the_settings() -> None:
    """Invariant 6: what is shown in a log, an error or the UI holds names of variables, never their values."""
    settings = Settings({v.name: SECRET for v in VARIABLES if v.secret} | POSTGRES | CS_TOOLS)
    cs_tools, address = settings.peoplesoft(), settings.postgres()
    shown = [settings, cs_tools, Settings(PEOPLE_SOFT).peoplesoft(), address, settings.secret("SAP_KEY")]
    shown += [Settings(PERSON_API).person_api(), Settings(SNAPLOGIC_PERSON).person_api(), Settings(SAP).sap()]
    shown += [Settings(VDS | VDS_USER).vds(), Settings(VDS | {"VDS_KEY": SECRET}).vds()]
    for value in shown:
        assert SECRET not in f"{value} {value!r}"
    assert "SAP_KEY" in repr(settings)
    assert isinstance(settings.secret("SAP_KEY"), SecretStr)
    assert settings.secret("SAP_KEY").get_secret_value() == SECRET


# ----------------------------------------------------------------------------------------------- environment


def test_the_process_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("LAKE_START_DATE=2020-01-01\nDATALAKE_HOME=/from/file\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKE_START_DATE", "2021-01-01")
    monkeypatch.delenv("DATALAKE_HOME", raising=False)
    settings = load_settings()
    assert settings.start_date == date(2021, 1, 1)
    assert settings.home == Path("/from/file")


def test_the_file_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAKE_START_DATE", raising=False)
    assert load_settings().start_date == date(2025, 1, 1)


def test_a_given_environment_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE_START_DATE", "2021-01-01")
    assert load_settings({}).start_date == date(2025, 1, 1)


def test_names_of_variables_are_unique_and_each_says_what_it_is_for() -> None:
    names = [variable.name for variable in VARIABLES]
    assert len(names) == len(set(names))
    assert [v.name for v in VARIABLES if len(v.purpose) < 10] == []
    assert [v.name for v in VARIABLES if v.choices and v.default is not None and v.default not in v.choices] == []


def test_the_files_of_the_project_are_found_wherever_the_process_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (project_files() / "sql" / "migrations").is_dir()
    assert (project_files() / "dagster.yaml").is_file()
