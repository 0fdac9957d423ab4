-- One sender at a time, for the length of the session. $1: key of the lock.
select pg_catalog.pg_try_advisory_lock($1)
