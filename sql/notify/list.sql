-- Notifications, latest first, each with its channels. $1: open ones only.
select
    n.notification_id,
    n.kind,
    n.severity,
    n.owner,
    n.subject,
    n.asset,
    n.partition,
    n.run_id,
    n.title,
    n.text,
    n.open_partitions,
    n.times_seen,
    n.first_seen_at,
    n.last_seen_at,
    n.due_at,
    n.told_at,
    n.resolved_at,
    n.resolved_by,
    coalesce(
        (
            select jsonb_agg(jsonb_build_object(
                'channel', d.channel,
                'sent_at', case when d.sent_at >= n.due_at then d.sent_at end,
                'attempts', d.attempts,
                'error', d.error
            ) order by d.channel)
            from ops.notification_delivery as d
            where d.notification_id = n.notification_id
        ),
        '[]'::jsonb
    ) as deliveries
from ops.notification as n
where n.resolved_at is null or not $1
order by n.last_seen_at desc, n.notification_id desc
