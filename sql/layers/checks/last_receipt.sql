-- The last committed load of one partition. $1: asset, $2: load date.
select
    rows_removed,
    rows_changed,
    rows_unchanged
from ops.receipt
where asset = $1 and load_date = $2
order by attempt desc
limit 1
