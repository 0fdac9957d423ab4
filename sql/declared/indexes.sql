-- Indexes of a table without those of constraints: name, columns, and what follows the word `using` in the statement
-- that makes each. $1: the table.
select
    ci.relname::text as name,
    x.indisunique as is_unique,
    right(
        pg_get_indexdef(x.indexrelid),
        -length(
            format(
                'CREATE %sINDEX %I ON ONLY %s USING ',
                case when x.indisunique then 'UNIQUE ' else '' end,
                ci.relname,
                x.indrelid::regclass
            )
        )
    ) as method,
    (
        select array_agg(coalesce(a.attname::text, '') order by k.place)
        from unnest(x.indkey) with ordinality as k (attnum, place)
        left join pg_catalog.pg_attribute as a on x.indrelid = a.attrelid and k.attnum = a.attnum
    ) as columns
from pg_catalog.pg_index as x
inner join pg_catalog.pg_class as ci on x.indexrelid = ci.oid
where x.indrelid = $1
order by ci.relname
