-- Columns of a table as they are. $1: schema, $2: table.
select
    a.attname as name,
    format_type(a.atttypid, a.atttypmod) as type,
    not a.attnotnull as nullable
from pg_catalog.pg_attribute as a
inner join pg_catalog.pg_class as c on a.attrelid = c.oid
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
where n.nspname = $1 and c.relname = $2 and a.attnum > 0 and not a.attisdropped
order by a.attnum
