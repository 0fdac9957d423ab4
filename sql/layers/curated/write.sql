{% from "layers/projection.sql" import values %}
-- Write what services may see and do not see yet. Grain: service and key. $1: the run.
insert into {{ curated | table }} (
    service, {{ key_names | columns }},
    {{ columns | map(attribute="name") | columns }},
    {{ dated | column }}, load_date, digest, run_id, loaded_at
)
select
    f.service,
    {{ key_names | columns("f") }},
{{ values(columns, "f.document") }},
    f.load_date::timestamp,
    f.load_date,
    f.digest,
    $1::text,
    clock_timestamp()
from pg_temp.filtered as f
on conflict do nothing
