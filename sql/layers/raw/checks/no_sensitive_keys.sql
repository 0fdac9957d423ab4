-- severity: error
-- blocking: true
-- No document written on the date holds a key that is never kept, at any depth and in any letter case.

-- $1: the date.
{% from "layers/checks/sensitive.sql" import holds %}
select 1
from {{ raw | table }}
where
    load_date = $1
    and {{ holds(document | column, sensitive) }}
