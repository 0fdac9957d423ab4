-- A declared table: what views, grants, indexes and comments are attached to, while its one partition is replaced.
create table {{ table | table }} (
{% for column in columns %}
    {{ column.name | column }} {{ column.sql }}
    {%- if not column.nullable %} not null{% endif %}
    {%- if not loop.last %},{% endif %}

{% endfor %}
) partition by list ({{ by | column }})
