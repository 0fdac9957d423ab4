-- Rows of a table, and of a scope of it. $1 and on: the scope.
select
    count(*) as total,
    count(*) filter (where {{ scope | bound(1) }}) as in_scope
from {{ table | table }}
