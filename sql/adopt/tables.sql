-- What stands under the names of the lake's tables. $1: names, as schema.table. Grain: one row per relation found.
select
    w.name,
    c.relrowsecurity as has_row_security,
    c.oid::bigint as relation,
    c.relkind = 'r' and not c.relispartition and not c.relhassubclass as is_plain,
    pg_has_role(c.relowner, 'usage') and has_database_privilege(current_database(), 'create') as may_move,
    pg_get_userbyid(c.relowner) as owner_name,
    pg_total_relation_size(c.oid) as bytes,
    array(
        select a.attname::text
        from pg_attribute as a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        order by a.attnum
    ) as columns
from unnest($1::text[]) as w (name)
inner join pg_class as c on c.oid = to_regclass(w.name)
order by w.name
