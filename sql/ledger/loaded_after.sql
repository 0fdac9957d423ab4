-- Dates after $3 that a table was loaded for, oldest first, each with the snapshot its latest load was made from.
select distinct on (load_date)
    load_date,
    snapshot_sha256
from ops.receipt
where asset = $1 and scope = $2 and load_date > $3
order by load_date asc, attempt desc
