"""Ids of people from PeopleSoft's id queries: which answers name whom, and which name nobody."""

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from datalake_assets.sources.errors import PermanentSourceError
from datalake_assets.sources.ids import IdAnswer, peoplesoft_ids
from datalake_assets.sources.peoplesoft import ROW_NUMBER, CsTools
from datalake_assets.sources.policies import PEOPLESOFT_IDS
from datalake_assets_tests.sources.fault_server import answer, serving

pytestmark = pytest.mark.anyio

FAST = replace(PEOPLESOFT_IDS, read_s=0.5, total_s=1, attempts=1)
BUID = "U12345678"


async def ids_of(rows: object) -> IdAnswer:
    body = rows if isinstance(rows, bytes) else json.dumps({"data": rows}).encode()
    async with (
        serving(answer(body)) as server,
        CsTools(f"{server.url}/q", SecretStr("canary-secret"), policy=FAST) as queries,
    ):
        return await peoplesoft_ids(queries, "BU_PARM_0216_QRY")


def row(number: int, value: object) -> dict[str, object]:
    return {ROW_NUMBER: number, "CAMPUS_ID": value}


async def test_ids_come_as_they_were_sent_without_blanks_at_their_ends() -> None:
    """Fault P15: an id with a trailing blank was another person."""
    got = await ids_of([row(1, "U90000001"), row(2, " U90000002  "), row(3, "u 9"), row(4, "U90000001")])
    assert got.rows == ("U90000001", "U90000002", "u 9", "U90000001")
    assert (got.unusable, got.received, got.complete) == ((), 4, True)
    assert got.bytes_in > 50
    assert got.seconds > 0
    assert "BU_PARM_0216_QRY" in got.pointer


async def test_an_alias_before_the_column_does_no_harm() -> None:
    assert (await ids_of([{ROW_NUMBER: 1, "A.CAMPUS_ID": "U90000001"}])).rows == ("U90000001",)


@pytest.mark.parametrize(
    ("bad", "rule", "reason"),
    [
        ('{"CAMPUS_ID":null}', "no_id", "The entry has no CAMPUS_ID, not even a blank one."),
        ('{"EMPLID":"U90000002"}', "no_id", "The entry has no CAMPUS_ID, not even a blank one."),
        ("{}", "no_id", "The entry has no CAMPUS_ID, not even a blank one."),
        ('{"CAMPUS_ID":90000002}', "id_not_text", "The CAMPUS_ID of the entry is not a text."),
        ('{"CAMPUS_ID":["U90000002"]}', "id_not_text", "The CAMPUS_ID of the entry is not a text."),
        ('{"CAMPUS_ID":"a","CAMPUS_ID":"b"}', "duplicate_key", "The row names a field twice."),
        ('{"A.CAMPUS_ID":"a","B.CAMPUS_ID":"b"}', "alias_clash", "Two fields of the row are called 'CAMPUS_ID'."),
        ("null", "row_not_object", "The row is null, not an object."),
    ],
)
async def test_a_row_without_a_readable_id_condemns_only_itself(bad: str, rule: str, reason: str) -> None:
    got = await ids_of(f'{{"data":[{{"CAMPUS_ID":"U90000001"}},{bad}]}}'.encode())
    assert got.rows == ("U90000001",)
    assert [(one.rule, one.reason) for one in got.unusable] == [(rule, reason)]
    assert got.received == 2


async def test_a_blank_id_is_nobody() -> None:
    """PeopleSoft writes an empty field as a blank; a field that is missing or null may hide anybody."""
    got = await ids_of([row(1, "U90000001"), row(2, " "), row(3, "")])
    assert (got.rows, got.unusable, got.nameless, got.received) == (("U90000001",), (), 2, 3)


async def test_an_answer_without_row_numbers_is_not_known_to_be_complete() -> None:
    """CS Tools tells no count: rows missing at its end would not show."""
    assert not (await ids_of([{"CAMPUS_ID": "U90000001"}])).complete


@pytest.mark.parametrize("rows", [[], None, {}, [row(1, "U90000001"), row(3, "U90000003")]])
async def test_an_empty_or_gapped_answer_is_none(rows: Any) -> None:
    with pytest.raises(PermanentSourceError):
        await ids_of(rows)


async def test_an_answer_does_not_show_whom_it_names() -> None:
    got = await ids_of([row(1, BUID), row(2, [BUID])])
    assert BUID not in repr(got)
