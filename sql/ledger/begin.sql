-- Announce an attempt at one slice. Grain: one row per slice; the attempt that is written here last may commit. No row
-- while a younger run loads the slice: if each of two runs could supersede the other, both would fail. $1: asset,
-- $2: partition, $3: run, $4: its number.
insert into ops.load_attempt as latest (asset, partition, attempt, run_id, begun_at)
select
    $1,
    $2,
    1,
    $3,
    clock_timestamp()
where
    not exists (
        select
        from ops.load_attempt as other
        inner join ops.run using (run_id)
        where
            other.asset = $1
            and other.partition = $2
            and run.number > $4
            and not exists (
                select
                from ops.receipt
                where
                    receipt.asset = other.asset
                    and receipt.partition = other.partition
                    and receipt.attempt = other.attempt
            )
    )
on conflict (asset, partition) do update
    set attempt = latest.attempt + 1,
        run_id = excluded.run_id,
        begun_at = excluded.begun_at
returning attempt
