-- Somebody says that a trouble is over. $1: notification; $2: when; $3: who says so.
update ops.notification
set open_partitions = '{}', resolved_at = $2, resolved_by = $3
where resolved_at is null and notification_id = $1
returning notification_id
