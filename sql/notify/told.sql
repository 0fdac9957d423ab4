-- Every channel has taken the message. $1: notification; $2: since when it was due, as it was read; $3: when.
update ops.notification
set told_at = $3
where notification_id = $1 and due_at = $2
