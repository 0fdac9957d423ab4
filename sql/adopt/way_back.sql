-- The way back, the last step first.
select
    kind,
    schema,
    name,
    detail
from ops.way_back
order by place desc
