-- What one run did to each table, in the order of the layers. $1: the run.
select
    asset,
    rows_total,
    rows_new,
    rows_changed,
    rows_removed,
    rows_unchanged,
    quarantined,
    duration_s
from ops.receipt
where run_id = $1
order by committed_at
