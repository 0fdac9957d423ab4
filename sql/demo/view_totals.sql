-- Rows of each month of a dated view, and what its amounts come to in pence. `names`: no column, or one in pounds.
-- Grain: month.
select
    month::text as period,
    count(*) as total,
{% if names %}
    coalesce(round(sum({{ names[0] | column }}) * 100), 0)::bigint as pence
{% else %}
    null::bigint as pence
{% endif %}
from {{ view | table }}
group by month
order by month
