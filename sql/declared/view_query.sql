-- The rows of a table that belong to a period. `fields`: expression and name; `condition`: parsed and rendered.
select
{% for field in fields %}
    {{ field.expression }} as {{ field.name | column }}{{ "" if loop.last else "," }}
{% endfor %}
from {{ table | table }}
where {{ condition }}
