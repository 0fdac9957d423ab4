-- Person: history of changes, current state, and what each service may see.
create schema if not exists person_raw;
create schema if not exists person_xform;
create schema if not exists person_curated;

create table person_raw.person_data (
    bu_uid varchar not null,
    person_data jsonb,
    dl_insert_date timestamp not null,
    load_date date not null,
    operation "char" not null check (operation in ('I', 'U', 'D')),
    digest bytea,
    source text not null,
    run_id text not null,
    loaded_at timestamptz not null,
    primary key (bu_uid, load_date) include (digest),
    check ((operation = 'D') = (person_data is null)),
    check ((operation = 'D') = (digest is null))
);
comment on table person_raw.person_data is 'Change points of each person: one row per date on which the document differs from the landed date before.';
create index person_data_newest_first on person_raw.person_data (bu_uid, dl_insert_date desc);
create index person_data_by_load_date on person_raw.person_data (load_date);

create table person_xform.current_person_data (
    bu_uid varchar not null primary key,
    person_data jsonb,
    modified_date timestamp not null,
    load_date date not null,
    digest bytea not null,
    run_id text not null,
    loaded_at timestamptz not null
);
comment on table person_xform.current_person_data is 'Persons as they are now: the last change point of each, unless it is a removal.';

create table person_curated.person_data_by_service (
    service varchar(64) not null,
    bu_uid varchar not null,
    person_data jsonb,
    modified_date timestamp not null,
    load_date date not null,
    digest bytea not null,
    run_id text not null,
    loaded_at timestamptz not null,
    primary key (bu_uid, service)
) partition by list (service);
comment on table person_curated.person_data_by_service is 'Persons and fields that each service may see. A service has a partition of its own, made when it is first loaded.';

create table ops.person_filtered (
    bu_uid varchar not null primary key,
    load_date date not null,
    digest bytea not null
);
comment on table ops.person_filtered is 'State of each person that the curated rows were last filtered from; where the current state differs, they are filtered anew.';

-- lz4 packs and unpacks several times as fast as pglz; a server that was built without it keeps its default.
do $$
begin
    alter table person_raw.person_data alter column person_data set compression lz4;
    alter table person_xform.current_person_data alter column person_data set compression lz4;
    alter table person_curated.person_data_by_service alter column person_data set compression lz4;
exception when feature_not_supported then
    null;
end
$$;
