-- Keep the states that came and went within one date, which the history by dates cannot hold. $1: entity, $2: who
-- adopts. Grain: key and place.
insert into ops.adopted_state (entity, document_key, load_date, place, written_at, digest, document, run_id)
select
    $1::text,
    array[
        {% for name in key_names %}
        s.{{ name | column }}::text{{ "," if not loop.last }}
        {% endfor %}
    ],
    s.load_date,
    s.place,
    s.written_at,
    s.digest,
    coalesce(
        p.document,
        o.{{ document | column }}{% if shows_documents %},
        x.{{ document | column }}{% endif %}
    ),
    $2::text
from pg_temp.{{ state | column }} as s
left join pg_temp.{{ prepared | column }} as p
    on s.row_id = p.row_id and p.layer = case s.kind when 0 then 'raw' when 1 then 'xform' end
left join {{ old_raw | table }} as o on s.kind = 0 and s.row_id = o.ctid
{% if shows_documents %}
left join {{ old_xform | table }} as x on s.kind = 1 and s.row_id = x.ctid
{% endif %}
where s.operation is null
