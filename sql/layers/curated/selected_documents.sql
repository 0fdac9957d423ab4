-- Documents of a selection of keys at given change points: one array of values per key column, then their dates.
select
    {{ key_names | columns("r") }},
    r.load_date,
    r.digest,
    true as stale,
    r.{{ document | column }} as document
from unnest(
    {% for column in key %}
    ${{ loop.index }}::{{ column.type }}[],
    {% endfor %}
    ${{ key | length + 1 }}::date[]
) as wanted ({{ key_names | columns }}, load_date)
inner join {{ raw | table }} as r using ({{ key_names | columns }}, load_date)
