-- Some rows of a table, the last change first. $1: how many.
select {{ names | columns }}
from {{ table | table }}
order by load_date desc, {{ key | columns }}
limit $1
