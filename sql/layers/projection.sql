{# The columns that a current or curated table shows, read from a document. Trailing blanks are padding. #}
{% macro values(columns, document) %}
{% for column in columns %}
{% if not column.path %}
    {{ document }} as {{ column.name | column }}
{%- elif column.type == "varchar" %}
    rtrim({{ document }} #>> '{ {{- column.path | join(",") -}} }', ' ') as {{ column.name | column }}
{%- else %}
    ({{ document }} #>> '{ {{- column.path | join(",") -}} }')::{{ column.type }} as {{ column.name | column }}
{%- endif %}{{ "," if not loop.last }}
{% endfor %}
{% endmacro %}
