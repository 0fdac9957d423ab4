"""A database as the earlier system left it: its tables, its triggers that skip and rewrite rows, its readers.

Written from what readers know of the tables; shares nothing with the migrations.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

import asyncpg
import orjson

SCHEMAS: Final = tuple(
    f"{entity}_{layer}" for entity in ("term", "course", "person") for layer in ("raw", "xform", "curated")
)

_TERM_COLUMNS: Final = """
    acad_career varchar(4) not null, strm varchar(4) not null, descr varchar(20), term_begin_dt varchar(8),
    term_end_dt varchar(8), current_ind varchar(1), bu_cur_future_term varchar(1), bu_future_term_1 varchar(4),
    bu_past_term_1 varchar(4), old_term varchar(5), acad_year varchar(4), rownumber int,
    modified_date timestamp default now() not null
"""

_COURSE_KEY: Final = """
    academic_career varchar(4) not null, term_code int4 not null, course_id int4 not null,
    session_code varchar(3) not null
"""

TABLES: Final = f"""
create table term_raw.term_data (
    acad_career varchar(4) not null, strm varchar(4) not null, term_data jsonb not null,
    modified_date timestamp default now() not null
);
create table term_xform.current_term_data ({_TERM_COLUMNS}, primary key (acad_career, strm, rownumber));
create table term_curated.term_data_by_service (
    service varchar not null, {_TERM_COLUMNS}, primary key (service, acad_career, strm)
);
create table course_raw.course_data (
    {_COURSE_KEY}, course_data jsonb not null, dl_insert_date timestamp default now() not null
);
create index idx_course_newest on course_raw.course_data
    (academic_career, term_code, course_id, session_code, dl_insert_date desc);
create table course_xform.current_course_data (
    {_COURSE_KEY}, course_data jsonb not null, modified_date timestamp default now() not null,
    primary key (academic_career, term_code, course_id, session_code)
);
create table course_curated.course_data_by_service (
    service varchar not null, {_COURSE_KEY}, course_data jsonb not null,
    modified_date timestamp default now() not null,
    primary key (service, academic_career, term_code, course_id, session_code)
);
create table person_raw.person_data (
    bu_uid varchar not null, person_data jsonb not null, dl_insert_date timestamp default now() not null
);
create index person_data_bu_uid_idx on person_raw.person_data (bu_uid, dl_insert_date desc);
create table person_xform.current_person_data (
    bu_uid varchar primary key, person_data jsonb not null, modified_date timestamp default now() not null
);
comment on table person_xform.current_person_data is 'Latest document of each person';
create table person_curated.person_data_by_service (
    service varchar not null, bu_uid varchar not null, person_data jsonb not null,
    modified_date timestamp default now() not null, primary key (bu_uid, service)
);
create table person_curated.person_schema_service_filters (service varchar primary key, paths text[] not null);
insert into person_curated.person_schema_service_filters values ('mail', '{{/personid,/email}}');
"""

TRIGGERS: Final = """
create function person_raw.skip_repeated() returns trigger language plpgsql as $$
begin
    -- Rewrites what it is given, and drops what says nothing new.
    new.person_data := new.person_data - 'ssn';
    if new.person_data = (
        select o.person_data from person_raw.person_data as o
        where o.bu_uid = new.bu_uid order by o.dl_insert_date desc limit 1
    ) then
        return null;
    end if;
    return new;
end $$;
create trigger trg_skip_repeated before insert on person_raw.person_data
    for each row execute function person_raw.skip_repeated();

create function person_raw.show_current() returns trigger language plpgsql as $$
begin
    insert into person_xform.current_person_data values (new.bu_uid, new.person_data, new.dl_insert_date)
    on conflict (bu_uid) do update set person_data = excluded.person_data, modified_date = excluded.modified_date;
    return new;
end $$;
create trigger trg_show_current after insert on person_raw.person_data
    for each row execute function person_raw.show_current();

create function person_xform.show_services() returns trigger language plpgsql as $$
begin
    delete from person_curated.person_data_by_service where bu_uid = new.bu_uid;
    insert into person_curated.person_data_by_service
    select v.service, new.bu_uid, v.seen, new.modified_date
    from (values
        ('full', new.person_data),
        ('mail', jsonb_build_object('personid', new.bu_uid, 'email', new.person_data -> 'email'))
    ) as v (service, seen);
    return new;
end $$;
create trigger trg_show_services after insert or update on person_xform.current_person_data
    for each row execute function person_xform.show_services();
create trigger trg_never_fires after delete on person_xform.current_person_data
    for each row execute function person_xform.show_services();
alter table person_xform.current_person_data disable trigger trg_never_fires;
create trigger trg_always after update on person_curated.person_data_by_service
    for each row execute function person_xform.show_services();
alter table person_curated.person_data_by_service enable always trigger trg_always;
"""


async def build(connection: asyncpg.Connection, *, triggers: bool = True) -> None:
    """The earlier system's empty tables."""
    for schema in SCHEMAS:
        await connection.execute(f"create schema {schema}")
    await connection.execute(TABLES)
    if triggers:
        await connection.execute(TRIGGERS)


def person(uid: str, **fields: Any) -> dict[str, Any]:
    """A small person document."""
    return {"personid": uid, "email": [{"type": "HOME", "address": f"{uid.lower()}@example.edu"}], **fields}


def course(number: int, **fields: Any) -> dict[str, Any]:
    """A small course document as it is stored."""
    return {
        "termDetails": {"academicCareer": "UGRD", "term": {"code": "2258"}},
        "v2": {"courseId": f"{number:06}", "sessionCode": "1"},
        "title": "Calculus",
        **fields,
    }


async def insert_person(connection: asyncpg.Connection, at: datetime, document: dict[str, Any]) -> None:
    """As the old flow did, one row at a time; triggers do the rest."""
    await connection.execute(
        "insert into person_raw.person_data values ($1, $2, $3)", document["personid"], orjson.dumps(document), at
    )


async def insert_course(connection: asyncpg.Connection, at: datetime, document: dict[str, Any]) -> None:
    """A course in raw, current and curated; its triggers are left out."""
    key = ("UGRD", 2258, int(document["v2"]["courseId"]), "1")
    text = orjson.dumps(document)
    await connection.execute("insert into course_raw.course_data values ($1, $2, $3, $4, $5, $6)", *key, text, at)
    await connection.execute(
        "insert into course_xform.current_course_data values ($1, $2, $3, $4, $5, $6)"
        " on conflict (academic_career, term_code, course_id, session_code)"
        " do update set course_data = excluded.course_data, modified_date = excluded.modified_date",
        *key,
        text,
        at,
    )
    await connection.execute("delete from course_curated.course_data_by_service where course_id = $1", key[2])
    await connection.execute(
        "insert into course_curated.course_data_by_service values ('full', $1, $2, $3, $4, $5, $6)", *key, text, at
    )


async def insert_terms(connection: asyncpg.Connection, at: datetime, documents: Sequence[dict[str, Any]]) -> None:
    """Terms as the old flow left them: all of one answer, numbered by it."""
    for number, document in enumerate(documents, start=1):
        text = orjson.dumps({"attr:rownumber": number, **document})
        key = (document["ACAD_CAREER"], document["STRM"])
        await connection.execute("insert into term_raw.term_data values ($1, $2, $3, $4)", *key, text, at)
    shown = """
        acad_career, strm, term_data ->> 'DESCR', term_data ->> 'TERM_BEGIN_DT', term_data ->> 'TERM_END_DT',
        term_data ->> 'CURRENT_IND', term_data ->> 'BU_CUR_FUTURE_TERM', term_data ->> 'BU_FUTURE_TERM_1',
        term_data ->> 'BU_PAST_TERM_1', term_data ->> 'OLD_TERM', term_data ->> 'ACAD_YEAR',
        (term_data ->> 'attr:rownumber')::int, modified_date
    """
    await connection.execute(f"insert into term_xform.current_term_data select {shown} from term_raw.term_data")
    await connection.execute(
        f"insert into term_curated.term_data_by_service select 'active_terms', {shown} from term_raw.term_data"
    )


_CATALOGUE: Final = """
select 'relation' as what, n.nspname || '.' || c.relname as name,
    jsonb_build_array(c.oid, c.relfilenode, c.relkind, c.relowner, c.relacl::text, c.reloptions, c.relrowsecurity,
        obj_description(c.oid, 'pg_class'),
        case when c.relkind = 'v' then pg_get_viewdef(c.oid) when c.relkind = 'i' then pg_get_indexdef(c.oid) end
    )::text as content
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
union all
select 'column', a.attrelid::regclass || '.' || a.attname, jsonb_build_array(a.attnum,
    format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attacl::text, pg_get_expr(d.adbin, d.adrelid),
    col_description(a.attrelid, a.attnum))::text
from pg_attribute as a
join pg_class as c on c.oid = a.attrelid join pg_namespace as n on n.oid = c.relnamespace
left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and a.attnum > 0
union all
select 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) from pg_constraint
where conrelid <> 0 and connamespace not in (select oid from pg_namespace where nspname ~ '^pg_|^information')
union all
select 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid) || tgenabled::text from pg_trigger
union all
select 'routine', p.oid::regprocedure::text, pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '')
from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
union all
select 'schema', nspname, nspowner || coalesce(nspacl::text, '') || coalesce(obj_description(oid, 'pg_namespace'), '')
from pg_namespace where nspname !~ '^pg_'
order by 1, 2
"""


async def fingerprint(connection: asyncpg.Connection) -> dict[str, str]:
    """Everything there is in a database, byte for byte: catalogue, and for each table the COPY of its rows in place."""
    found = {f"{what} {name}": content for what, name, content in await connection.fetch(_CATALOGUE)}
    tables = await connection.fetch(
        "select quote_ident(schemaname) || '.' || quote_ident(tablename) from pg_tables"
        " where schemaname !~ '^pg_' and schemaname <> 'information_schema'"
    )
    for (table,) in tables:
        rows = hashlib.sha256()

        async def add(data: bytes, rows: Any = rows) -> None:
            rows.update(data)

        await connection.copy_from_query(f"select ctid, * from {table}", output=add)
        found[f"rows {table}"] = rows.hexdigest()
    return found


def nights(first: date, count: int) -> Iterable[datetime]:
    """Moments of nightly loads, as a database in UTC wrote them."""
    return (
        datetime(first.year, first.month, first.day, 8, 10) + timedelta(days=number)  # noqa: DTZ001 - as stored
        for number in range(count)
    )
