-- Write the change points of the old history. Grain: key and load date. $1: who adopts, $2: where the rows came from.
insert into {{ raw | table }} (
    {{ key_names | columns }}, {{ document | column }}, {{ dated | column }}, load_date,
    operation, digest, source, run_id, loaded_at
)
select
    {{ key_names | columns("s") }},
    coalesce(
        p.document,
        o.{{ document | column }}{% if shows_documents %},
        x.{{ document | column }}{% endif %}
    ),
    s.written_at,
    s.load_date,
    s.operation::"char",
    s.digest,
    $2::text,
    $1::text,
    clock_timestamp()
from pg_temp.{{ state | column }} as s
left join pg_temp.{{ prepared | column }} as p
    on s.row_id = p.row_id and p.layer = case s.kind when 0 then 'raw' when 1 then 'xform' end
left join {{ old_raw | table }} as o on s.kind = 0 and s.row_id = o.ctid
{% if shows_documents %}
left join {{ old_xform | table }} as x on s.kind = 1 and s.row_id = x.ctid
{% endif %}
where s.operation is not null
