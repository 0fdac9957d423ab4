-- Troubles of a kind are over in every partition. $1: kind; $2: subject; $3: when; $4: who says so.
update ops.notification
set open_partitions = '{}', resolved_at = $3, resolved_by = $4
where resolved_at is null and kind = $1 and subject = $2
returning notification_id
