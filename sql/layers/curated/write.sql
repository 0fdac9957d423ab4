{% from "layers/projection.sql" import values %}
-- Write what services may see and do not see yet; a document that is null is seen as it stands in the history.
-- Grain: service and key. $1: the run.
insert into {{ curated | table }} (
    service, {{ key_names | columns }},
    {{ columns | map(attribute="name") | columns }},
    {{ dated | column }}, load_date, digest, run_id, loaded_at
)
select
    s.service,
    {{ key_names | columns("s") }},
{{ values(columns, "s.document") }},
    s.load_date::timestamp,
    s.load_date,
    s.digest,
    $1::text,
    clock_timestamp()
from (
    select
        f.service,
        {{ key_names | columns("f") }},
        f.load_date,
        f.digest,
        f.document
    from pg_temp.filtered as f
    where f.document is not null
    union all
    select
        f.service,
        {{ key_names | columns("f") }},
        f.load_date,
        f.digest,
        r.{{ document | column }} as document
    from pg_temp.filtered as f
    inner join {{ raw | table }} as r
        on {{ key_names | same("r", "f") }} and f.load_date = r.load_date and f.digest = r.digest
    where f.document is null
) as s
on conflict do nothing
