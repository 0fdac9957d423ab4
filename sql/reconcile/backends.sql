-- Sessions in this database that carry a run's id as their name. $1: pattern of a run's id.
select
    pid,
    application_name as run_id,
    backend_start,
    coalesce(state, 'not visible to this role') as state
from pg_catalog.pg_stat_activity
where datname = pg_catalog.current_database() and pid <> pg_catalog.pg_backend_pid() and application_name ~ $1
order by backend_start
