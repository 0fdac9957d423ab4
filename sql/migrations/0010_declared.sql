-- Declared tables: where their rows are, and what each was last loaded from.
create schema if not exists lake_parts;
comment on schema lake_parts is 'Rows of declared tables. Each table has one partition here, which a load replaces as a whole; read the tables, never these.';

create table ops.declared_load (
    asset text primary key,
    definition text not null,
    snapshot_sha256 text not null,
    load_date date not null,
    rows_total bigint not null,
    run_id text not null,
    loaded_at timestamptz not null
);
comment on table ops.declared_load is 'What each declared table was last loaded from: a load from the same by the same definition would change nothing.';
