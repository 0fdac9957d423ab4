-- Trips and revenue of one color and month, by the table of revenues. $1: color, $2: month.
select
    coalesce(sum(trips), 0)::bigint as trips,
    coalesce(sum(revenue), 0) as revenue
from trips.monthly_revenue
where color = $1 and month = $2
