-- End one session, if it is still the one that was looked at, and wait for it. $1: pid, $2: name, $3: start, $4: ms.
select pg_catalog.pg_terminate_backend(pid, $4)
from pg_catalog.pg_stat_activity
where pid = $1 and application_name = $2 and backend_start = $3
