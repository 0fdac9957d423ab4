-- Troubles that people are told of, and what became of telling them.
create table ops.notification (
    notification_id bigint generated always as identity primary key,
    fingerprint bytea not null,
    kind text not null,
    severity text not null check (severity in ('error', 'warn')),
    owner text not null,
    subject text not null,
    asset text not null default '',
    partition text not null default '',
    run_id text not null default '',
    title text not null,
    text text not null,
    open_partitions text[] not null,
    times_seen integer not null default 1 check (times_seen > 0),
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    due_at timestamptz not null,
    told_at timestamptz,
    resolved_at timestamptz,
    resolved_by text,
    check ((resolved_at is null) = (resolved_by is null)),
    check ((resolved_at is null) or (open_partitions = '{}'))
);
comment on table ops.notification is 'One row per trouble, however often it is seen: at most one open row per fingerprint; one that was resolved and returns is a new row. Never holds personal data.';
comment on column ops.notification.fingerprint is 'BLAKE2b of kind, subject and cause: what makes two sightings the same trouble. Partition and run are not part of it.';
comment on column ops.notification.subject is 'What is in trouble: an asset, a job, an asset with its check, or an entity.';
comment on column ops.notification.partition is 'Partition of the latest sighting, as run_id, title and text are; empty if there is none.';
comment on column ops.notification.open_partitions is 'Partitions in which it was seen and that have not been good since; the row is resolved when none is left.';
comment on column ops.notification.due_at is 'Since when a message is owed: the first sighting, or the one that is told again.';
comment on column ops.notification.told_at is 'When every channel of the owner had taken the message; null while one is owed.';
create unique index notification_open on ops.notification (fingerprint) where resolved_at is null;
create index notification_open_subject on ops.notification (subject) where resolved_at is null;
create index notification_by_fingerprint on ops.notification (fingerprint, resolved_at);

create table ops.notification_delivery (
    notification_id bigint not null references ops.notification (notification_id) on delete cascade,
    channel text not null,
    attempts integer not null,
    tried_at timestamptz not null,
    sent_at timestamptz,
    error text,
    primary key (notification_id, channel)
);
comment on table ops.notification_delivery is 'One row per notification and channel it was tried on. Unsent while sent_at is null or before the notification was due.';
comment on column ops.notification_delivery.channel is 'webhook:<name> or mail:<address>; addresses of webhooks are secrets and never stand here.';
comment on column ops.notification_delivery.error is 'Why the last attempt failed; null if it did not.';
