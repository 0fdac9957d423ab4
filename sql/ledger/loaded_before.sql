-- The latest date before $3 that a table was loaded for, and how many keys had documents then. $1: asset, $2: scope.
select
    load_date,
    snapshot_sha256,
    coalesce(rows_new + rows_changed + rows_unchanged, 0) as alive
from ops.receipt
where asset = $1 and scope = $2 and load_date < $3
order by load_date desc, attempt desc
limit 1
