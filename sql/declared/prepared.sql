-- Partitions that were filled ahead and belong to no table yet, with what is told of them. $1: schema of partitions,
-- $2: how the names of those of a table begin.
select
    c.relname::text as name,
    obj_description(c.oid, 'pg_class') as told
from pg_catalog.pg_class as c
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
where n.nspname = $1 and starts_with(c.relname::text, $2) and c.relkind = 'r' and not c.relispartition
order by c.relname
