-- What the role may not do and loads or migrations need, one row per object. $1: schemas of the lake.
with needed (object, privilege, granted) as (
    select
        'database ' || pg_catalog.current_database(),
        kind.name,
        pg_catalog.has_database_privilege(pg_catalog.current_database(), kind.name)
    from (values ('TEMPORARY')) as kind (name)
    union all
    select
        'database ' || pg_catalog.current_database(),
        'CREATE',
        pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
    from pg_catalog.unnest($1::text[]) as wanted (schema)
    where pg_catalog.to_regnamespace(pg_catalog.quote_ident(wanted.schema)) is null
    group by pg_catalog.current_database()
    union all
    select
        'schema ' || namespace.nspname,
        kind.name,
        pg_catalog.has_schema_privilege(namespace.oid, kind.name)
    from pg_catalog.pg_namespace as namespace
    cross join (values ('USAGE'), ('CREATE')) as kind (name)
    where namespace.nspname = any($1::text[])
    union all
    select
        'table ' || namespace.nspname || '.' || class.relname,
        kind.name,
        pg_catalog.has_table_privilege(class.oid, kind.name)
    from pg_catalog.pg_class as class
    inner join pg_catalog.pg_namespace as namespace on class.relnamespace = namespace.oid
    cross join (values ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) as kind (name)
    where namespace.nspname = any($1::text[]) and class.relkind in ('r', 'p')
    union all
    select
        'table ' || namespace.nspname || '.' || class.relname,
        'OWNERSHIP',
        pg_catalog.pg_has_role(class.relowner, 'USAGE')
    from pg_catalog.pg_class as class
    inner join pg_catalog.pg_namespace as namespace on class.relnamespace = namespace.oid
    where namespace.nspname = any($1::text[]) and class.relkind in ('r', 'p')
)

select
    object,
    pg_catalog.array_agg(privilege order by privilege) as lacking
from needed
where not granted
group by object
order by object
