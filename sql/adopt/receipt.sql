-- The account of a table that shows the adopted history, per scope. $1: asset, $2: last date, $3: who adopts.
insert into ops.receipt (asset, partition, attempt, run_id, load_date, scope, rows_total, committed_at)
select
    $1::text,
    concat_ws('|', $2::date::text{% for name in scope %}, t.{{ name | column }}::text{% endfor %}),
    0,
    $3::text,
    $2::date,
    concat_ws('|', null::text{% for name in scope %}, t.{{ name | column }}::text{% endfor %}),
    (select count(*) from {{ table | table }}),
    clock_timestamp()
from {{ table | table }} as t
{% if scope %}
group by {{ scope | columns("t") }}
{% else %}
having true
{% endif %}
