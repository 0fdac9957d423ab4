{% from "layers/projection.sql" import values %}
-- Show the last change point of every stale key that is alive. Grain: key. $1: the run.
insert into {{ xform | table }} (
    {{ key_names | columns }},
    {{ columns | map(attribute="name") | columns }},
    {{ dated | column }}, load_date, digest, run_id, loaded_at
)
select
    {{ key_names | columns("r") }},
{{ values(columns, "r." ~ (document | column)) }},
    r.load_date::timestamp,
    r.load_date,
    r.digest,
    $1,
    clock_timestamp()
from pg_temp.stale as s
inner join {{ raw | table }} as r using ({{ key_names | columns }}, load_date)
where s.digest is not null
