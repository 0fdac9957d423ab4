-- Trips and revenue of each partition, added up over zones. Grain: color and month.
select
    color || '|' || month as partition,
    sum(trips)::bigint as total,
    sum(revenue) as amount
from trips.monthly_revenue
group by color, month
