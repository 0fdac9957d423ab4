-- Partitions of a table, none if it is not partitioned. $1: schema, $2: table.
select
    parent.relkind = 'p' as partitioned,
    array(
        select child.relname::text
        from pg_catalog.pg_inherits as i
        inner join pg_catalog.pg_class as child on i.inhrelid = child.oid
        where i.inhparent = parent.oid
        order by child.relname
    ) as partitions
from pg_catalog.pg_class as parent
inner join pg_catalog.pg_namespace as n on parent.relnamespace = n.oid
where n.nspname = $1 and parent.relname = $2
