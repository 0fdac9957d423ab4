-- What depends on some tables or views and would stay with the old ones. $1: the tables and views.
-- Views are not listed: they are made anew.
with part as (
    select
        'pg_class'::regclass as classid,
        c.oid as objid
    from pg_class as c
    where c.oid = any($1::bigint[])
    union all
    select
        'pg_type'::regclass as classid,
        t.oid as objid
    from pg_type as t
    where t.typrelid = any($1::bigint[])
    union all
    select
        'pg_type'::regclass as classid,
        t.oid as objid
    from pg_type as t
    where t.typelem in (
        select e.oid
        from pg_type as e
        where e.typrelid = any($1::bigint[])
    )
),

own as (
    select
        'pg_constraint'::regclass as classid,
        oid as objid
    from pg_constraint
    where conrelid = any($1::bigint[])
    union all
    select
        'pg_trigger'::regclass as classid,
        oid as objid
    from pg_trigger
    where tgrelid = any($1::bigint[])
    union all
    select
        'pg_attrdef'::regclass as classid,
        oid as objid
    from pg_attrdef
    where adrelid = any($1::bigint[])
    union all
    select
        'pg_policy'::regclass as classid,
        oid as objid
    from pg_policy
    where polrelid = any($1::bigint[])
    union all
    select
        'pg_rewrite'::regclass as classid,
        oid as objid
    from pg_rewrite
    union all
    select
        classid,
        objid
    from part
)

select distinct
    pg_describe_object(d.classid, d.objid, 0) || ' depends on ' || pg_describe_object(d.refclassid, d.refobjid, 0)
    as obstacle
from pg_depend as d
inner join part as p on d.refclassid = p.classid and d.refobjid = p.objid
where
    d.deptype = 'n'
    and not exists (
        select from own as o
        where o.classid = d.classid and o.objid = d.objid
    )
union
select 'publication ' || p.pubname || ' holds ' || r.prrelid::regclass::text
from pg_publication_rel as r
inner join pg_publication as p on r.prpubid = p.oid
where r.prrelid = any($1::bigint[])
order by 1
