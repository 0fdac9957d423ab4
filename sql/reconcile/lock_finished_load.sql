-- The latest attempt at one slice if its receipt is committed; no other can begin until this transaction ends.
select attempted.attempt
from ops.load_attempt as attempted
where
    attempted.asset = $1
    and attempted.partition = $2
    and exists (
        select
        from ops.receipt
        where
            receipt.asset = attempted.asset
            and receipt.partition = attempted.partition
            and receipt.attempt = attempted.attempt
    )
for update of attempted
