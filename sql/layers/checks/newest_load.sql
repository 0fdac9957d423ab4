-- The newest date that a table was loaded for. $1: asset.
select max(load_date)
from ops.receipt
where asset = $1
