-- What the values of a table come to, column by column. `columns`: name, and what is counted beside missing values:
-- texts (empty ones), booleans (false ones) or numbers (zeros, and their sum).
select
{% for column in columns %}
    count(*) filter (where {{ column.name | column }} is null) as {{ ("nulls_%d" % loop.index0) | column }},
{% if column.holds == "text" %}
    count(*) filter (where {{ column.name | column }} = '') as {{ ("blanks_%d" % loop.index0) | column }},
{% elif column.holds == "boolean" %}
    count(*) filter (where not {{ column.name | column }}) as {{ ("falses_%d" % loop.index0) | column }},
{% elif column.holds == "number" %}
    count(*) filter (where {{ column.name | column }} = 0) as {{ ("zeros_%d" % loop.index0) | column }},
    sum({{ column.name | column }})::numeric as {{ ("sum_%d" % loop.index0) | column }},
{% endif %}
{% endfor %}
    count(*) as total
from {{ table | table }}
