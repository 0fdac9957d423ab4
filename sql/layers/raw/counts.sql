-- What the slice changes and what it leaves, and how many keys were live before it.
select
    count(*) filter (where operation = 'I') as rows_new,
    count(*) filter (where operation = 'U') as rows_changed,
    count(*) filter (where operation = 'D') as rows_removed,
    (
        select count(*)
        from pg_temp.answer as a
        inner join pg_temp.state_before as b using ({{ key_names | columns }})
        where a.outcome = 'data' and a.digest = b.digest
    ) as rows_unchanged,
    (
        select count(*)
        from pg_temp.state_before as b
        where b.digest is not null
    ) as live_before
from pg_temp.change_point
