-- Rows of a partition at its latest load, and what it was loaded from; none if it was never loaded. $1: asset,
-- $2: partition.
select
    rows_new,
    snapshot_sha256
from ops.receipt
where asset = $1 and partition = $2
order by attempt desc
limit 1
