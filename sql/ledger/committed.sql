-- The latest attempt at a slice that was committed; 0 if none was. $1: asset, $2: partition.
select coalesce(max(attempt), 0)
from ops.receipt
where asset = $1 and partition = $2
