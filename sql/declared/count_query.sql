-- How many rows a query has. `query` is made of parsed expressions, quoted names and literals.
select count(*)
from (
{{ query }}
) as rows_of_query
