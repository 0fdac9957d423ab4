-- What was taken over from the tables of an earlier system, and how they come back.
create table ops.adoption (
    raw_table text primary key,
    last_date date,
    rows_taken bigint not null,
    states bigint not null,
    change_points bigint not null,
    run_id text not null,
    adopted_at timestamptz not null
);
comment on table ops.adoption is 'History that was adopted by `datalake adopt`. Dates up to last_date have no snapshots: they cannot be loaded.';

create table ops.adopted_state (
    entity text not null,
    document_key text[] not null,
    load_date date not null,
    place bigint not null,
    written_at timestamp not null,
    digest bytea,
    document jsonb,
    run_id text not null,
    primary key (entity, document_key, place)
);
comment on table ops.adopted_state is 'Adopted states that came and went within one date, of which the history by dates keeps the last; `datalake blame` shows them.';

create table ops.way_back (
    place integer primary key,
    kind text not null,
    schema text not null,
    name text not null,
    detail text not null
);
comment on table ops.way_back is 'What `datalake adopt` moved, disabled and made, in order; `datalake adopt --undo` goes through it backwards.';
