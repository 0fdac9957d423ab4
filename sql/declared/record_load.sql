-- Remember what a declared table was loaded from. Key: asset. $1: asset, $2: definition, $3: snapshot, $4: load date,
-- $5: rows, $6: run.
insert into ops.declared_load (asset, definition, snapshot_sha256, load_date, rows_total, run_id, loaded_at)
values ($1, $2, $3, $4, $5, $6, clock_timestamp())
on conflict (asset) do update
    set
        definition = excluded.definition,
        snapshot_sha256 = excluded.snapshot_sha256,
        load_date = excluded.load_date,
        rows_total = excluded.rows_total,
        run_id = excluded.run_id,
        loaded_at = excluded.loaded_at
