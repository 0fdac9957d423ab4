-- Term: history of changes, current state, and what each service may see.
create schema if not exists term_raw;
create schema if not exists term_xform;
create schema if not exists term_curated;

create table term_raw.term_data (
    acad_career varchar(4) not null,
    strm varchar(4) not null,
    term_data jsonb,
    modified_date timestamp not null,
    load_date date not null,
    operation "char" not null check (operation in ('I', 'U', 'D')),
    digest bytea,
    source text not null,
    run_id text not null,
    loaded_at timestamptz not null,
    primary key (acad_career, strm, load_date),
    check ((operation = 'D') = (term_data is null)),
    check ((operation = 'D') = (digest is null))
);
comment on table term_raw.term_data is 'Change points of each term: one row per date on which its document differs from the landed date before.';
create index term_data_by_load_date on term_raw.term_data (load_date);

create table term_xform.current_term_data (
    acad_career varchar(4) not null,
    strm varchar(4) not null,
    descr varchar(20),
    term_begin_dt varchar(8),
    term_end_dt varchar(8),
    current_ind varchar(1),
    bu_cur_future_term varchar(1),
    bu_future_term_1 varchar(4),
    bu_past_term_1 varchar(4),
    old_term varchar(5),
    acad_year varchar(4),
    rownumber integer,
    modified_date timestamp not null,
    load_date date not null,
    digest bytea not null,
    run_id text not null,
    loaded_at timestamptz not null,
    primary key (acad_career, strm)
);
comment on table term_xform.current_term_data is 'Terms as they are now: the last change point of each, unless it is a removal.';
comment on column term_xform.current_term_data.rownumber is 'Place of the term by career and code; not the position in the source''s answer, which carries no meaning.';

create table term_curated.term_data_by_service (
    service varchar(64) not null,
    acad_career varchar(4) not null,
    strm varchar(4) not null,
    descr varchar(20),
    term_begin_dt varchar(8),
    term_end_dt varchar(8),
    current_ind varchar(1),
    bu_cur_future_term varchar(1),
    bu_future_term_1 varchar(4),
    bu_past_term_1 varchar(4),
    old_term varchar(5),
    acad_year varchar(4),
    rownumber integer,
    modified_date timestamp not null,
    load_date date not null,
    digest bytea not null,
    run_id text not null,
    loaded_at timestamptz not null,
    primary key (service, acad_career, strm)
);
comment on table term_curated.term_data_by_service is 'Terms and fields that each service may see.';
