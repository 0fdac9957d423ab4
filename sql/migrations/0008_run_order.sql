-- The order of runs, so that of two that load the same slices at the same moment one wins everywhere.
create table ops.run (
    run_id text primary key,
    number bigint generated always as identity,
    begun_at timestamptz not null
);
comment on table ops.run is 'Runs in the order in which they first began to load anything: an older one cannot supersede a younger one.';
