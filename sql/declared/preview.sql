-- Some rows of a declared table, the first of its key if it has one. $1: how many.
select {{ names | columns }}
from {{ table | table }}
order by {{ key | columns }}
limit $1
