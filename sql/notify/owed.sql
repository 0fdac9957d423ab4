-- Open notifications whose message is owed to somebody, with the channels that have taken it.
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
    array(
        select d.channel
        from ops.notification_delivery as d
        where d.notification_id = n.notification_id and d.sent_at >= n.due_at
    ) as taken
from ops.notification as n
where n.resolved_at is null and n.told_at is null
order by n.due_at, n.notification_id
