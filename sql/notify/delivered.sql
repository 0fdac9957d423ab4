-- What became of a message on a channel. $1: notifications in it; $2: channel; $3: when; $4: why it failed, or null.
insert into ops.notification_delivery as known (notification_id, channel, attempts, tried_at, sent_at, error)
select
    told.notification_id,
    $2::text,
    1,
    $3::timestamptz,
    case when $4::text is null then $3::timestamptz end,
    $4::text
from unnest($1::bigint[]) as told (notification_id)
on conflict (notification_id, channel) do update
    set attempts = known.attempts + 1,
    tried_at = excluded.tried_at,
    sent_at = coalesce(excluded.sent_at, known.sent_at),
    error = excluded.error
