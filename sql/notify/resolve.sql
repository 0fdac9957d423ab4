-- A subject is good again in one partition. $1: kinds; $2: subject; $3: partition; $4: when; $5: by which run.
update ops.notification
set
    open_partitions = array_remove(open_partitions, $3),
    resolved_at = case when array_remove(open_partitions, $3) = '{}' then $4::timestamptz end,
    resolved_by = case when array_remove(open_partitions, $3) = '{}' then $5 end
where
    resolved_at is null
    and kind = any($1::text[])
    and subject = $2
    and $3 = any(open_partitions)
    and last_seen_at < $4
returning notification_id
