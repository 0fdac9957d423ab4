-- The columns of a table in DuckDB; none if it is not there. $1: schema, $2: table.
select column_name
from information_schema.columns
where table_schema = $1 and table_name = $2
