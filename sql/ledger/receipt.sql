-- Record one committed load. Key: asset, partition, attempt.
insert into ops.receipt (
    asset, partition, attempt, run_id, load_date, scope,
    asked, data, absent, failed, quarantined, complete,
    rows_total, rows_new, rows_changed, rows_removed, rows_unchanged,
    snapshot_sha256, requests, retries, bytes_in, duration_s, committed_at
)
values (
    $1, $2, $3, $4, $5, $6,
    $7, $8, $9, $10, $11, $12,
    $13, $14, $15, $16, $17,
    $18, $19, $20, $21, $22, clock_timestamp()
)
