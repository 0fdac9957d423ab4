-- The columns of a table in DuckDB and their types; none if it is not there. $1: schema, $2: table.
select
    column_name,
    data_type
from information_schema.columns
where table_schema = $1 and table_name = $2
