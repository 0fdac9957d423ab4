-- A column that was declared after the table was made.
alter table {{ table | table }} add column {{ column.name | column }} {{ column.sql }}
