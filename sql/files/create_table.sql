-- The table of a declared dataset. Grain: one row per row of a file.
create table {{ table | table }} (
{% for column in columns %}
    {{ column.name | column }} {{ column.sql }}
    {%- if not column.nullable %} not null{% endif %}
    {%- if not loop.last %},{% endif %}

{% endfor %}
)
