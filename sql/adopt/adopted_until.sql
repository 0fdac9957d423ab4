-- The last date that a table's history was adopted for: dates up to it have no snapshots. $1: the table.
select max(last_date)
from ops.adoption
where raw_table = $1
