-- Forget every account of some tables. $1: the tables, $2: their entities.
with receipts as (
    delete from ops.receipt
    where asset = any($1::text[])
),

attempts as (
    delete from ops.load_attempt
    where asset = any($1::text[])
),

overrides as (
    delete from ops.guard_override
    where asset = any($1::text[])
),

quarantined as (
    delete from ops.quarantine
    where entity = any($2::text[])
)

delete from ops.service_version
where entity = any($2::text[])
