-- Triggers that users made on some tables. $1: the tables. `state` as in the catalogue: O, A, R or D (disabled).
select
    n.nspname as schema,
    c.relname as table,
    t.tgname as name,
    t.tgenabled::text as state,
    p.pronamespace::regnamespace::text || '.' || p.proname as calls
from pg_trigger as t
inner join pg_class as c on t.tgrelid = c.oid
inner join pg_namespace as n on c.relnamespace = n.oid
inner join pg_proc as p on t.tgfoid = p.oid
where t.tgrelid = any($1::bigint[]) and not t.tgisinternal
order by n.nspname, c.relname, t.tgname
