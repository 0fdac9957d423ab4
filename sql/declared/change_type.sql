-- A column that is declared with another type, in a table whose rows are elsewhere.
alter table {{ table | table }} alter column {{ column.name | column }} type {{ column.sql }} using null
