-- Accounts of every load: who loads what now, what became of it, what was refused, which service rules are in force.
create schema if not exists ops;

create table ops.load_attempt (
    asset text not null,
    partition text not null,
    attempt integer not null,
    run_id text not null,
    begun_at timestamptz not null,
    primary key (asset, partition)
);
comment on table ops.load_attempt is 'Latest attempt at each slice. A load commits only while its attempt is the latest: an orphan of an earlier run cannot.';

create table ops.receipt (
    asset text not null,
    partition text not null,
    attempt integer not null,
    run_id text not null,
    load_date date,
    scope text not null default '',
    asked bigint,
    data bigint,
    absent bigint,
    failed bigint,
    quarantined bigint,
    complete boolean,
    rows_total bigint,
    rows_new bigint,
    rows_changed bigint,
    rows_removed bigint,
    rows_unchanged bigint,
    snapshot_sha256 text,
    requests bigint,
    retries bigint,
    bytes_in bigint,
    duration_s double precision,
    committed_at timestamptz not null,
    primary key (asset, partition, attempt)
);
comment on table ops.receipt is 'One committed load of one slice: asked = data + absent + failed + quarantined, and what became of it.';
create index receipt_by_slice on ops.receipt (asset, scope, load_date);

create table ops.quarantine (
    quarantine_id bigint generated always as identity primary key,
    entity text not null,
    load_date date not null,
    scope text not null default '',
    document_key text[] not null,
    rule text not null,
    reason text not null,
    source text not null,
    document bytea,
    fingerprint bytea not null,
    state text not null default 'open' check (state in ('open', 'replayed', 'superseded')),
    run_id text not null,
    first_seen_at timestamptz not null,
    resolved_at timestamptz,
    unique (entity, load_date, scope, fingerprint)
);
comment on table ops.quarantine is 'Documents that could not be kept, cleaned of sensitive keys, with the rule they broke and where they came from.';
comment on column ops.quarantine.document is 'What could be kept of the document, as ASCII JSON; null if nothing could be read.';
comment on column ops.quarantine.fingerprint is 'BLAKE2b of source pointer, rule and document: one row however often a landing is loaded.';

create table ops.file_ledger (
    content_sha256 text primary key,
    dataset text not null,
    file_name text not null,
    bytes bigint not null,
    first_seen_at timestamptz not null,
    run_id text
);
comment on table ops.file_ledger is 'Every file seen, by content.';

create table ops.service_version (
    entity text not null,
    service text not null,
    scope text not null default '',
    version text not null,
    definition jsonb not null,
    run_id text not null,
    applied_at timestamptz not null,
    primary key (entity, service, scope)
);
comment on table ops.service_version is 'Definition of each service that its curated rows were made with; a changed definition rebuilds that service.';

create table ops.guard_override (
    asset text not null,
    partition text not null,
    guard text not null,
    reason text not null check (length(trim(reason)) >= 10),
    granted_by text not null,
    granted_at timestamptz not null,
    primary key (asset, partition, guard)
);
comment on table ops.guard_override is 'Permission to load one slice past a guard, with its reason.';
