-- Trips of each partition whose zones have names, and what was paid for them. Grain: color and month.
select
    color || '|' || month as partition,
    count(*) as total,
    sum(total_amount) as amount
from trips.named_rides
where pickup_zone is not null and dropoff_zone is not null
group by color, month
