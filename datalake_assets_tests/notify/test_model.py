from datetime import UTC, datetime

from datalake_assets.notify.model import MOST_IN_A_MESSAGE, Notification, message_of
from datalake_assets_tests.notify.troubles import NOW, trouble


def kept(number: int = 1, **changes: object) -> Notification:
    values: dict[str, object] = {
        "number": number,
        "kind": "run_failed",
        "severity": "error",
        "owner": "team:data-engineering",
        "subject": "term_raw.term_data",
        "asset": "term_raw.term_data",
        "partition": "2026-01-02",
        "run_id": "run-1",
        "title": f"Run failed: table {number}",
        "text": "It failed. What to do: mend it.",
        "open_partitions": ("2026-01-02",),
        "times_seen": 1,
        "first_seen_at": NOW,
        "last_seen_at": NOW,
        "due_at": NOW,
        "told_at": None,
        "resolved_at": None,
        "resolved_by": None,
    }
    return Notification(**{**values, **changes})  # type: ignore[arg-type]


def test_a_trouble_is_the_same_in_every_partition_and_run_and_another_one_with_another_cause() -> None:
    """A backfill of a hundred days against a dead source is one trouble; a guard that stops a load is another."""
    first = trouble()
    assert first.fingerprint == trouble(partition="2026-01-03", run_id="run-2", what="Other words.").fingerprint
    assert first.fingerprint != trouble(cause="Failure TransientSourceError").fingerprint
    assert first.fingerprint != trouble(subject="term_xform.current_term_data").fingerprint
    assert first.fingerprint != trouble(kind="run_canceled").fingerprint


def test_the_text_says_what_where_and_what_to_do() -> None:
    assert trouble().text == (
        "The load would remove 17 of 20 keys. Where: term_raw.term_data, partition 2026-01-02. "
        "What to do: Make sure with the source."
    )


def test_what_looks_like_a_person_or_a_secret_leaves_the_text() -> None:
    """Sentences of checks and errors are written by many; the last hand before people cleans them all."""
    text = trouble(
        what="Failed for U90000001 and 900-12-3456.", where="pat@example.edu", todo="Ask\nX-Api-Key: canary-19 again."
    ).text
    assert not any(value in text for value in ("U90000001", "900-12-3456", "pat@example.edu", "canary-19", "\n"))


def test_a_message_links_to_the_run_and_says_how_often_it_was_seen() -> None:
    seen = kept(times_seen=3, first_seen_at=datetime(2026, 1, 1, 6, 10, tzinfo=UTC))
    message = message_of([seen], "https://dagster.example.edu/")
    assert message.title == "[error] Run failed: table 1"
    assert message.text.splitlines() == [
        "It failed. What to do: mend it.",
        "Partition: 2026-01-02.",
        "Seen 3 times since 2026-01-01 01:10 EST.",
        "https://dagster.example.edu/runs/run-1",
    ]
    assert "http" not in message_of([seen], None).text


def test_many_troubles_are_one_message_that_counts_what_it_cannot_hold() -> None:
    """A hundred messages in a minute are read by nobody, and cut off by Slack."""
    message = message_of([kept(number) for number in range(1, MOST_IN_A_MESSAGE + 31)], None)
    assert message.title == "50 troubles in the data lake, 50 of them errors"
    assert message.text.count("Run failed") == MOST_IN_A_MESSAGE
    assert message.text.endswith("30 more: `datalake notifications` lists them.")
