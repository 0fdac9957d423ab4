"""What a term is: names, columns and paths that everything else derives from."""

import pytest

from datalake_assets.entities import ENTITIES, SENSITIVE_KEYS, TERM, Column, Entity


def test_the_tables_of_term_keep_the_names_their_readers_know() -> None:
    assert [str(name) for name in (TERM.landing, TERM.raw, TERM.xform, TERM.curated)] == [
        "term_landing.term_data",
        "term_raw.term_data",
        "term_xform.current_term_data",
        "term_curated.term_data_by_service",
    ]


def test_the_columns_of_term_keep_the_types_their_readers_know() -> None:
    assert {column.name: column.sql_type for column in (*TERM.key, *TERM.columns)} == {
        "acad_career": "varchar(4)",
        "strm": "varchar(4)",
        "descr": "varchar(20)",
        "term_begin_dt": "varchar(8)",
        "term_end_dt": "varchar(8)",
        "current_ind": "varchar(1)",
        "bu_cur_future_term": "varchar(1)",
        "bu_future_term_1": "varchar(4)",
        "bu_past_term_1": "varchar(4)",
        "old_term": "varchar(5)",
        "acad_year": "varchar(4)",
    }
    assert [(name, type_) for name, type_, _ in TERM.derived_columns] == [("rownumber", "integer")]


def test_the_position_in_the_answer_is_no_part_of_the_key() -> None:
    """With the row number in the key, rows without one ended the load, an added term renamed the rest (fault T5)."""
    assert TERM.key_names == ("acad_career", "strm")


def test_known_paths_are_those_of_key_and_columns() -> None:
    assert "/STRM" in TERM.known_paths
    assert "/DESCR" in TERM.known_paths
    assert len(TERM.known_paths) == len(TERM.key) + len(TERM.columns)


def test_an_entity_that_shows_whole_documents_knows_no_paths() -> None:
    key, document = Column("bu_uid", ("personid",), "varchar"), Column("person_data", (), "jsonb")
    entity = Entity("person", "person_data", "person_data", "dl_insert_date", (key,), (document,), 3)
    assert entity.known_paths == frozenset()


def test_sensitive_keys_are_written_in_lower_case() -> None:
    """They are compared with lower-cased keys, so one with a capital would never be found."""
    assert {key for key in SENSITIVE_KEYS if key != key.lower()} == set()
    assert {"ssn", "sexualorientation"} <= SENSITIVE_KEYS


@pytest.mark.parametrize("entity", ENTITIES, ids=lambda entity: entity.name)
def test_no_column_is_read_from_a_sensitive_key(entity: Entity) -> None:
    """Invariant 6: such a column could only ever be empty, or a leak."""
    names = {name.lower() for column in (*entity.key, *entity.columns) for name in column.path}
    assert names & SENSITIVE_KEYS == set()


@pytest.mark.parametrize("entity", ENTITIES, ids=lambda entity: entity.name)
def test_column_names_are_unique_and_scope_is_part_of_the_key(entity: Entity) -> None:
    names = [column.name for column in (*entity.key, *entity.columns)] + [name for name, _, _ in entity.derived_columns]
    assert len(names) == len(set(names))
    assert set(entity.scope) <= set(entity.key_names)
