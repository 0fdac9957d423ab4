-- A column that is newly declared.
alter table {{ table | table }} add column {{ column.name | column }} {{ column.sql }}
