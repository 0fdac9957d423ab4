-- The newest date that each scope of a table was loaded for. $1: asset.
select
    scope,
    max(load_date) as load_date
from ops.receipt
where asset = $1
group by scope
order by scope
