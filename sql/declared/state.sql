-- What stands under the name of a table: its kind, the column that it is partitioned by, its partition. No row if there
-- is nothing. $1: schema, $2: table.
select
    c.oid,
    c.relkind::text as kind,
    obj_description(c.oid, 'pg_class') as comment,
    (
        select a.attname::text
        from pg_catalog.pg_partitioned_table as p
        inner join pg_catalog.pg_attribute as a on p.partrelid = a.attrelid and p.partattrs[0] = a.attnum
        where p.partrelid = c.oid
    ) as partitioned_by,
    (
        select array[n2.nspname::text, c2.relname::text]
        from pg_catalog.pg_inherits as i
        inner join pg_catalog.pg_class as c2 on i.inhrelid = c2.oid
        inner join pg_catalog.pg_namespace as n2 on c2.relnamespace = n2.oid
        where i.inhparent = c.oid
    ) as part
from pg_catalog.pg_class as c
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
where n.nspname = $1 and c.relname = $2
