-- Whether a column may be empty.
alter table {{ table | table }}
alter column {{ column.name | column }} {% if column.nullable %}drop{% else %}set{% endif %} not null
