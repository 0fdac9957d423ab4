-- Views that read some tables, directly or through other views; a view comes after all that it reads. $1: the tables.
with recursive reads as (
    select distinct
        r.ev_class as reader,
        d.refobjid as source
    from pg_depend as d
    inner join pg_rewrite as r on d.objid = r.oid
    where
        d.classid = 'pg_rewrite'::regclass
        and d.refclassid = 'pg_class'::regclass
        and r.ev_class <> d.refobjid
),

reached as (
    select
        reader,
        1 as depth
    from reads
    where source = any($1::bigint[])
    union
    select
        reads.reader,
        reached.depth + 1
    from reached
    inner join reads on reached.reader = reads.source
),

deepest as (
    select
        reader,
        max(depth) as depth
    from reached
    where reader <> all($1::bigint[])
    group by reader
)

select
    c.oid::bigint as relation,
    n.nspname as schema,
    c.relname as name,
    pg_has_role(c.relowner, 'usage') as may_move,
    pg_get_userbyid(c.relowner) as owner_name,
    c.relkind = 'v'
    and not exists (
        select from pg_trigger as t
        where t.tgrelid = c.oid
    )
    and not exists (
        select from pg_rewrite as r
        where r.ev_class = c.oid and r.rulename <> '_RETURN'
    ) as is_plain
from deepest as v
inner join pg_class as c on v.reader = c.oid
inner join pg_namespace as n on c.relnamespace = n.oid
order by v.depth, n.nspname, c.relname
