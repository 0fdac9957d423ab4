-- What some runs did to each table, in the order of the layers. $1: the runs. Grain: table.
select
    asset,
    -- Of a table, its rows after the last load; of landing, the rows of each snapshot.
    case
        when asset like '%\_landing.%' then sum(rows_total)::bigint
        else (array_agg(rows_total order by committed_at desc))[1]
    end as rows_total,
    sum(rows_new)::bigint as rows_new,
    sum(rows_changed)::bigint as rows_changed,
    sum(rows_removed)::bigint as rows_removed,
    sum(rows_unchanged)::bigint as rows_unchanged,
    sum(failed)::bigint as failed,
    sum(quarantined)::bigint as quarantined,
    sum(duration_s)::float8 as duration_s,
    array_agg(partition order by partition) as partitions
from ops.receipt
where run_id = any($1::text[])
group by asset
order by min(committed_at)
