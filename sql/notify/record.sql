-- One sighting of a trouble. The same sighting again changes nothing, so that whoever records may repeat itself.
-- $1: fingerprint; $2 to $10: the trouble; $11: when it was seen; $12: how long a message silences its repetitions.
insert into ops.notification as known (
    fingerprint, kind, severity, owner, subject, asset, partition, run_id, title, text,
    open_partitions, first_seen_at, last_seen_at, due_at
)
select
    $1::bytea,
    $2,
    $3,
    $4,
    $5,
    $6,
    $7::text,
    $8,
    $9,
    $10,
    array[$7::text],
    $11::timestamptz,
    $11::timestamptz,
    $11::timestamptz
where not exists (
    select from ops.notification
    where fingerprint = $1 and resolved_at >= $11
)
on conflict (fingerprint) where resolved_at is null do update
    set severity = excluded.severity,
    owner = excluded.owner,
    asset = excluded.asset,
    partition = excluded.partition,
    run_id = excluded.run_id,
    title = excluded.title,
    text = excluded.text,
    open_partitions = case
        when excluded.partition = any(known.open_partitions) then known.open_partitions
        else known.open_partitions || excluded.partition
    end,
    times_seen = known.times_seen + 1,
    last_seen_at = greatest(known.last_seen_at, excluded.last_seen_at),
    due_at = case
        when known.told_at is not null and excluded.last_seen_at >= known.due_at + $12::interval
            then excluded.last_seen_at
        else known.due_at
    end,
    told_at = case
        when excluded.last_seen_at >= known.due_at + $12::interval then null
        else known.told_at
    end
    where
        (excluded.last_seen_at > known.last_seen_at or not (excluded.partition = any(known.open_partitions)))
        and (excluded.run_id = '' or excluded.run_id <> known.run_id)
returning notification_id
