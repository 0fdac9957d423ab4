-- What was adopted, with the loads that were committed on top of it.
select
    a.raw_table,
    a.last_date,
    a.rows_taken,
    a.states,
    a.change_points,
    a.adopted_at,
    (
        select count(*)
        from ops.receipt as r
        where r.asset = a.raw_table and r.attempt > 0
    ) as loads
from ops.adoption as a
order by a.raw_table
