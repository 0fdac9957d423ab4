-- Good rows of each file at its latest landing. $1: asset of the landing. Grain: partition.
select distinct on (partition)
    partition,
    data
from ops.receipt
where asset = $1
order by partition asc, attempt desc
