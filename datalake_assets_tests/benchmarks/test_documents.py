from dataclasses import replace

from datalake_assets import exact_json
from datalake_assets.entities import PERSON
from datalake_assets.lake.documents import judge
from datalake_assets_tests.benchmarks.documents import Documents, id_of

DOCUMENTS = Documents(300)


def test_documents_have_the_digests_that_the_lake_gives_them() -> None:
    """A benchmark of documents whose digests are no real ones would measure nothing that ever happens."""
    for day in (0, 1, 102):
        for answer in DOCUMENTS.answers(day, [0, 1, 7, 299]):
            assert answer.document is not None
            assert answer == replace(
                judge(PERSON, exact_json.loads(answer.document), "bench"), document=answer.document
            )


def test_a_hundredth_of_the_documents_changes_on_a_day() -> None:
    before, after = ([answer.digest for answer in DOCUMENTS.answers(day)] for day in (4, 5))
    changed = [number for number in range(DOCUMENTS.count) if before[number] != after[number]]
    assert changed == list(DOCUMENTS.changed_on(5))
    assert len(changed) == 3


def test_shuffled_documents_are_the_same_in_another_order() -> None:
    plain, shuffled = (DOCUMENTS.sent(5, shuffled=way) for way in (False, True))
    assert plain != shuffled
    assert judge(PERSON, exact_json.loads(plain), "x").digest == judge(PERSON, exact_json.loads(shuffled), "x").digest


def test_a_million_persons_have_ids_of_their_own() -> None:
    assert len({id_of(number) for number in range(1_000_000)}) == 1_000_000
