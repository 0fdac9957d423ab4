-- One quarantined document was replayed.
update ops.quarantine
set state = 'replayed', resolved_at = clock_timestamp()
where quarantine_id = $1 and state = 'open'
