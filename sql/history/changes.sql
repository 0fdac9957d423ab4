-- Change points of one key up to a date, newest first. Values of the key, then the date.
{% if not latest_only %}
-- With what came and went within a date of adopted history; for that, the entity and the key as texts.
{% endif %}
select
    load_date,
    operation,
    {{ document | column }} as document,
    run_id,
    null::bigint as place
from {{ raw | table }}
where {{ key_names | bound(1) }} and load_date <= ${{ key_names | length + 1 }}
{% if not latest_only %}
union all
select
    load_date,
    case when document is null then 'D' else 'U' end::"char" as operation,
    document,
    run_id,
    place
from ops.adopted_state
where
    entity = ${{ key_names | length + 2 }}
    and document_key = ${{ key_names | length + 3 }}::text[]
    and load_date <= ${{ key_names | length + 1 }}
{% endif %}
order by load_date desc, place desc
{% if latest_only %}
limit 1
{% endif %}
