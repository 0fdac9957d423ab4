-- Views of a schema whose names begin alike, with their columns and the types of these. $1: schema, $2: beginning.
select
    c.relname::text as name,
    array_agg(a.attname::text order by a.attnum) as columns,
    array_agg(format_type(a.atttypid, a.atttypmod) order by a.attnum) as types
from pg_catalog.pg_class as c
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
inner join pg_catalog.pg_attribute as a on c.oid = a.attrelid and a.attnum > 0 and not a.attisdropped
where n.nspname = $1 and starts_with(c.relname::text, $2) and c.relkind = 'v'
group by c.relname
order by c.relname
