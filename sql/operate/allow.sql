-- Permit one slice to pass one guard; said again, the newer reason stands. Key: asset, partition, guard.
insert into ops.guard_override (asset, partition, guard, reason, granted_by, granted_at)
values ($1, $2, $3, $4, $5, clock_timestamp())
on conflict (asset, partition, guard) do update
    set reason = excluded.reason,
        granted_by = excluded.granted_by,
        granted_at = excluded.granted_at
