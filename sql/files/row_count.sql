-- Rows of a table by its receipts: those of the latest load of every partition. $1: asset.
select coalesce(sum(rows_new), 0)::bigint
from ops.receipt
where
    asset = $1
    and not exists (
        select
        from ops.receipt as later
        where
            later.asset = receipt.asset
            and later.partition = receipt.partition
            and later.attempt > receipt.attempt
    )
