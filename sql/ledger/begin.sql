-- Announce an attempt at one slice. Grain: one row per slice; the attempt that is written here last may commit.
insert into ops.load_attempt (asset, partition, attempt, run_id, begun_at)
values ($1, $2, 1, $3, clock_timestamp())
on conflict (asset, partition) do update
    set attempt = load_attempt.attempt + 1,
        run_id = excluded.run_id,
        begun_at = excluded.begun_at
returning attempt
