-- Every schema, relation and function of this database that is not the server's own.
select
    'schema' as kind,
    n.nspname as schema,
    '' as name
from pg_namespace as n
where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
union all
select
    case when c.relkind in ('v', 'm') then 'view' else 'table' end as kind,
    n.nspname as schema,
    c.relname as name
from pg_class as c
inner join pg_namespace as n on c.relnamespace = n.oid
where c.relkind in ('r', 'p', 'v', 'm') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
union all
select
    'routine' as kind,
    n.nspname as schema,
    quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')' as name
from pg_proc as p
inner join pg_namespace as n on p.pronamespace = n.oid
where p.prokind = 'f' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
order by 1, 2, 3
