-- severity: error
-- blocking: true
-- No document of the date holds a key that is never kept, at any depth and in any letter case.

-- $1: the date.
{% from "layers/checks/sensitive.sql" import holds %}
select 1
from {{ xform | table }}
where
    load_date = $1
    and (
        false
    {% for column in columns if not column.path %}
        or {{ holds(column.name | column, sensitive) }}
    {% endfor %}
    )
