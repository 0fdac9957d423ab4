-- What the current table gains, changes and loses.
select
    count(*) filter (where digest is not null and shown_digest is null) as rows_new,
    count(*) filter (where digest is not null and shown_digest is not null) as rows_changed,
    count(*) filter (where digest is null) as rows_removed
from pg_temp.stale
