-- Nobody migrates meanwhile. $1: the key of the migrations' lock.
select pg_advisory_xact_lock($1)
