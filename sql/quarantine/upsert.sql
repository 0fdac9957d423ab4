-- One quarantined document of a snapshot. Key: entity, partition and fingerprint; a row that is known stays as it is,
-- unless it had been replayed or superseded and the source says the same again.
insert into ops.quarantine (
    entity, load_date, scope, document_key, rule, reason, source, document, fingerprint, run_id, first_seen_at
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp())
on conflict (entity, load_date, scope, fingerprint) do update
    set state = 'open', resolved_at = null
    where quarantine.state <> 'open'
