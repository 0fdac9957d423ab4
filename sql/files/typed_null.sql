-- What DuckDB calls the type of a declared column.
select cast(null as {{ column.sql }}) as of_type
