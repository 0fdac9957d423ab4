-- Columns of a table as they are, with the views that read each of them. $1: the table.
select
    a.attname::text as name,
    format_type(a.atttypid, a.atttypmod) as type,
    not a.attnotnull as nullable,
    coalesce(
        (
            select array_agg(distinct rw.ev_class::regclass::text order by rw.ev_class::regclass::text)
            from pg_catalog.pg_depend as d
            inner join pg_catalog.pg_rewrite as rw on d.objid = rw.oid
            where
                d.classid = 'pg_catalog.pg_rewrite'::regclass
                and d.refclassid = 'pg_catalog.pg_class'::regclass
                and d.refobjid = a.attrelid
                and d.refobjsubid = a.attnum
        ),
        '{}'
    ) as views
from pg_catalog.pg_attribute as a
where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
order by a.attnum
