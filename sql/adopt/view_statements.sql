-- Statements that make a view anew under its name, over whatever then stands under the names that it reads: the view,
-- its owner, its comments. $1: the view.
select format(
    'create view %I.%I%s as %s',
    n.nspname,
    c.relname,
    ' with (' || array_to_string(c.reloptions, ', ') || ')',
    pg_get_viewdef(c.oid)
) as statement
from pg_class as c
inner join pg_namespace as n on c.relnamespace = n.oid
where c.oid = $1::bigint
union all
select format('alter view %I.%I owner to %I', n.nspname, c.relname, pg_get_userbyid(c.relowner))
from pg_class as c
inner join pg_namespace as n on c.relnamespace = n.oid
where c.oid = $1::bigint and c.relowner <> current_user::regrole
union all
select case
    when d.objsubid = 0 then format('comment on view %I.%I is %L', n.nspname, c.relname, d.description)
    else format('comment on column %I.%I.%I is %L', n.nspname, c.relname, a.attname, d.description)
end
from pg_description as d
inner join pg_class as c on d.objoid = c.oid
inner join pg_namespace as n on c.relnamespace = n.oid
left join pg_attribute as a on c.oid = a.attrelid and d.objsubid = a.attnum
where d.classoid = 'pg_class'::regclass and c.oid = $1::bigint
