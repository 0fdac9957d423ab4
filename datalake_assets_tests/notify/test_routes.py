"""Who is told where, as operators write it; a value that cannot be meant is refused without showing a secret."""

from typing import Any

import pytest

from datalake_assets.notify.routes import Routes
from datalake_assets.settings import SettingError, Settings

TOKEN = "canary5f2a"
HOOK, OTHER = f"https://hooks.example.edu/a/{TOKEN}", f"https://hooks.example.edu/b?sig={TOKEN}"
SMTP = {"NOTIFY_SMTP_HOST": "smtp.example.edu", "NOTIFY_SMTP_FROM": "lake@example.edu"}


def routes(**environment: str) -> Routes:
    return Settings(environment).notify()


def test_nothing_set_means_the_table_only() -> None:
    assert routes() == Routes()
    assert routes().channels == ()


def test_one_address_is_the_default_of_every_owner() -> None:
    told = routes(NOTIFY_WEBHOOK_URLS=OTHER)
    assert told.of("team:anybody") == ("webhook:default",)
    assert told.webhooks["default"].get_secret_value() == OTHER


def test_an_owner_with_a_route_is_told_there_and_everybody_else_by_default() -> None:
    told = routes(
        NOTIFY_WEBHOOK_URLS=f"default={HOOK} registrar={OTHER}",
        NOTIFY_EMAIL_TO="a@example.edu, b@example.edu",
        NOTIFY_ROUTES="team:registrar=registrar,terms@example.edu\n owner@example.edu=owner@example.edu",
        DATALAKE_UI_URL="https://dagster.example.edu",
        **SMTP,
    )
    assert told.webhooks["registrar"].get_secret_value() == OTHER
    assert told.of("team:registrar") == ("webhook:registrar", "mail:terms@example.edu")
    assert told.of("owner@example.edu") == ("mail:owner@example.edu",)
    default = ("webhook:default", "mail:a@example.edu", "mail:b@example.edu")
    assert told.of("team:data-engineering") == default
    assert told.channels == (*default, "webhook:registrar", "mail:terms@example.edu", "mail:owner@example.edu")
    assert told.ui_url == "https://dagster.example.edu"
    assert TOKEN not in repr(told)


def test_the_mail_server_is_read_only_where_somebody_gets_mail() -> None:
    assert routes(NOTIFY_WEBHOOK_URLS=HOOK, NOTIFY_SMTP_PORT="nonsense").mail is None
    server = routes(NOTIFY_EMAIL_TO="a@example.edu", NOTIFY_SMTP_USER="u", NOTIFY_SMTP_PASS=TOKEN, **SMTP).mail
    assert server is not None
    assert (server.host, server.port, server.sender, server.user) == ("smtp.example.edu", 587, "lake@example.edu", "u")
    assert TOKEN not in repr(server)


BAD: list[tuple[dict[str, str], str]] = [
    ({"NOTIFY_WEBHOOK_URLS": f"ops={TOKEN}"}, "NOTIFY_WEBHOOK_URLS must hold addresses such as"),
    ({"NOTIFY_WEBHOOK_URLS": TOKEN}, "NOTIFY_WEBHOOK_URLS must hold addresses such as"),
    ({"NOTIFY_WEBHOOK_URLS": f"https://u:{TOKEN}@hooks.example.edu"}, "NOTIFY_WEBHOOK_URLS must hold addresses such"),
    ({"NOTIFY_WEBHOOK_URLS": f"{HOOK} {OTHER}"}, "NOTIFY_WEBHOOK_URLS must hold addresses .* each named once"),
    ({"NOTIFY_EMAIL_TO": "Data Team <a@example.edu>"}, "NOTIFY_EMAIL_TO must hold plain mail addresses"),
    ({"NOTIFY_EMAIL_TO": "a@example.edu"}, "NOTIFY_SMTP_HOST is not set"),
    ({"NOTIFY_EMAIL_TO": "a@example.edu", "NOTIFY_SMTP_HOST": "h"}, "NOTIFY_SMTP_FROM is not set"),
    ({"NOTIFY_EMAIL_TO": "a@example.edu", "NOTIFY_SMTP_USER": "u", **SMTP}, "NOTIFY_SMTP_PASS is not set"),
    ({"NOTIFY_EMAIL_TO": "a@example.edu", "NOTIFY_SMTP_PORT": "x", **SMTP}, "NOTIFY_SMTP_PORT is 'x'"),
    ({"NOTIFY_ROUTES": "team:a=ops"}, "NOTIFY_ROUTES names webhook 'ops', which NOTIFY_WEBHOOK_URLS does not have"),
    ({"NOTIFY_ROUTES": "team:a"}, "NOTIFY_ROUTES names webhook 'team:a'"),
    ({"NOTIFY_ROUTES": "team:a=", **SMTP}, "NOTIFY_ROUTES must name each owner once"),
    ({"NOTIFY_ROUTES": "team:a=a@example.edu team:a=b@example.edu", **SMTP}, "NOTIFY_ROUTES must name each owner once"),
    ({"DATALAKE_UI_URL": "dagster"}, "DATALAKE_UI_URL is not a usable address"),
]


@pytest.mark.parametrize(("environment", "sentence"), BAD, ids=[sentence for _, sentence in BAD])
def test_a_value_that_cannot_be_meant_is_refused(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence) as caught:
        routes(**environment)
    assert caught.value.todo
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(("value", "growth"), [("0", 0), ("", 0), ("25", 25)])
def test_growth_of_the_quarantine_is_a_number(value: str, growth: int) -> None:
    assert Settings({"NOTIFY_QUARANTINE_GROWTH": value}).quarantine_growth == growth


@pytest.mark.parametrize("value", ["-1", "5%", "9999999999"])
def test_another_growth_is_refused(value: Any) -> None:
    with pytest.raises(SettingError, match="NOTIFY_QUARANTINE_GROWTH must be a whole number"):
        _ = Settings({"NOTIFY_QUARANTINE_GROWTH": value}).quarantine_growth
