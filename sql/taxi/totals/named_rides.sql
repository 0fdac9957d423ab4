-- Trips and revenue of one color and month, by the table of trips with names. $1: color, $2: month.
select
    count(*) as trips,
    coalesce(sum(total_amount), 0) as revenue
from trips.named_rides
where color = $1 and month = $2
