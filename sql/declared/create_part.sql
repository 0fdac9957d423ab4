-- A table for the rows of one load, which no reader can see yet. `columns`: name, type and whether null is allowed.
create table {{ part | table }} (
{% for column in columns %}
    {{ column.name | column }} {{ column.sql }}
    {%- if not column.nullable %} not null{% endif %}
    {%- if not loop.last %},{% endif %}

{% endfor %}
)
