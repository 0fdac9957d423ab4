-- Who may do what with some relations, beside ourselves. $1: the relations. Grain: relation, column (null: all of
-- them), grantee, privilege. `statement` gives the same to a relation of the same name; only reading is given.
with entry as (
    select
        c.oid,
        g.grantee,
        g.privilege_type,
        g.is_grantable,
        null::name as column_name
    from pg_class as c
    cross join aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as g
    where c.oid = any($1::bigint[])
    union all
    select
        a.attrelid as oid,
        g.grantee,
        g.privilege_type,
        g.is_grantable,
        a.attname as column_name
    from pg_attribute as a
    cross join aclexplode(a.attacl) as g
    where a.attrelid = any($1::bigint[]) and a.attacl is not null
)

select
    n.nspname as schema,
    c.relname as table,
    e.column_name,
    e.privilege_type as privilege,
    coalesce(r.rolname, 'public') as grantee,
    format(
        'grant select%s on %I.%I to %s%s',
        ' (' || quote_ident(e.column_name) || ')',
        n.nspname,
        c.relname,
        coalesce(quote_ident(r.rolname), 'public'),
        case when e.is_grantable then ' with grant option' else '' end
    ) as statement
from entry as e
inner join pg_class as c on e.oid = c.oid
inner join pg_namespace as n on c.relnamespace = n.oid
left join pg_roles as r on e.grantee = r.oid
where coalesce(r.rolname, '') <> current_user
order by n.nspname, c.relname, e.column_name nulls first, coalesce(r.rolname, ''), e.privilege_type
