-- Paths that hold nothing, or only null, in every document of the current state. $1: paths with slashes; $2: the same
-- as jsonpath.
select p.path
from unnest($1::text[], $2::text[]) as p (path, query)
where
    exists (select from {{ xform | table }})
    and not exists (
        select
        from {{ xform | table }} as x
        inner join {{ raw | table }} as r on {{ key_names | same("r", "x") }} and r.load_date = x.load_date
        where jsonb_path_exists(r.{{ document | column }}, p.query::jsonpath)
    )
