{% from "layers/projection.sql" import values %}
-- Current rows that say something else than the last document of their key, trailing blanks apart.
with head as (
    select distinct on ({{ key_names | columns("s") }})
        {{ key_names | columns("s") }},
        s.digest,
        coalesce(p.document, o.{{ document | column }}) as document
    from pg_temp.{{ state | column }} as s
    left join pg_temp.{{ prepared | column }} as p on p.layer = 'raw' and s.row_id = p.row_id
    left join {{ raw | table }} as o on s.row_id = o.ctid
    order by {{ key_names | columns("s") }}, s.place desc
),

projected as (
    select
        {{ key_names | columns }},
{{ values(columns, "document") }}
    from head
    where digest is not null
)

select count(*)
from {{ xform | table }} as x
inner join projected as p using ({{ key_names | columns }})
where
    false
    {% for column in columns %}
    or rtrim(x.{{ column.name | column }}, ' ') is distinct from p.{{ column.name | column }}
    {% endfor %}
