-- Trips of each partition, and what was paid for them. Grain: color and month.
select
    color || '|' || month as partition,
    count(*) as total,
    sum(total_amount) as amount
from trips.rides
group by color, month
