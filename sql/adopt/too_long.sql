-- Rows whose text does not fit the lake's column. Grain: column.
select
    v.name,
    v.longest,
    count(*) as rows_too_long
from {{ table | table }} as t
cross join lateral (
    values
    {% for column in columns %}
    ('{{ column.name }}', {{ column.max_length }}, t.{{ column.name | column }}::text){{ "," if not loop.last }}
    {% endfor %}
) as v (name, longest, value)
where length(v.value) > v.longest
group by v.name, v.longest
order by v.name
