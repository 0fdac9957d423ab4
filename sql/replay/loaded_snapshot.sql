-- The snapshot that one partition of a table was last loaded from. $1: asset, $2: partition.
select snapshot_sha256
from ops.receipt
where asset = $1 and partition = $2
order by attempt desc
limit 1
