-- Change points of one key, oldest first. Values of the key.
select
    load_date,
    operation,
    digest
from {{ raw | table }}
where
    {% for name in key_names %}
    {{ name | column }} = ${{ loop.index }}{{ "" if loop.last else " and" }}
    {% endfor %}
order by load_date
