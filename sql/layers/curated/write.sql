{% from "layers/projection.sql" import values %}
-- Write what a service may see and does not see yet. Grain: service and key. $1: the service, $2: the run.
insert into {{ curated | table }} (
    service, {{ key_names | columns }},
    {{ columns | map(attribute="name") | columns }},
    {{ dated | column }}, load_date, digest, run_id, loaded_at
)
select
    $1::text,
    {{ key_names | columns("f") }},
{{ values(columns, "f.document") }},
    f.load_date::timestamp,
    f.load_date,
    f.digest,
    $2::text,
    clock_timestamp()
from pg_temp.filtered as f
where not exists (
    select from {{ curated | table }} as c
    where c.service = $1::text and {{ key_names | same("c", "f") }}
)
