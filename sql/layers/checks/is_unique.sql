-- Whether a valid unique index has exactly the columns of a key, none of which may be null, in whatever order.
-- $1: schema, $2: table, $3: the columns.
with indexed as (
    select
        i.indexrelid,
        array_agg(a.attname::text) filter (where a.attnotnull) as names,
        count(*) as columns
    from pg_catalog.pg_index as i
    inner join pg_catalog.pg_class as c on i.indrelid = c.oid
    inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
    inner join pg_catalog.pg_attribute as a
        on i.indrelid = a.attrelid and a.attnum = any(i.indkey[0:i.indnkeyatts - 1])
    where n.nspname = $1 and c.relname = $2 and i.indisunique and i.indisvalid and i.indpred is null
    group by i.indexrelid
)

select count(*) > 0
from indexed
where names @> $3::text[] and names <@ $3::text[] and columns = cardinality($3::text[])
