-- The account of an adoption: one receipt per scope at its last date, so that freshness and checks know where the
-- history begins. $1: asset, $2: last date, $3: who adopts. Not for xform and curated.
insert into ops.receipt (
    asset, partition, attempt, run_id, load_date, scope,
    asked, data, absent, failed, quarantined, complete,
    rows_total, rows_new, rows_changed, rows_removed, rows_unchanged, committed_at
)
select
    $1::text,
    concat_ws('|', $2::date::text{% for name in scope %}, t.{{ name | column }}::text{% endfor %}),
    0,
    $3::text,
    $2::date,
    concat_ws('|', null::text{% for name in scope %}, t.{{ name | column }}::text{% endfor %}),
    count(*) filter (where t.operation in ('I', 'U')),
    count(*) filter (where t.operation in ('I', 'U')),
    0,
    0,
    0,
    false,
    (select count(*) from {{ table | table }}),
    count(*) filter (where t.operation = 'I'),
    count(*) filter (where t.operation = 'U'),
    count(*) filter (where t.operation = 'D'),
    0,
    clock_timestamp()
from {{ table | table }} as t
{% if scope %}
group by {{ scope | columns("t") }}
{% endif %}
