-- Open rows of a partition that its snapshot no longer holds. $4: fingerprints that it holds.
update ops.quarantine
set state = 'superseded', resolved_at = clock_timestamp()
where entity = $1 and load_date = $2 and scope = $3 and state = 'open' and fingerprint <> all($4::bytea[])
