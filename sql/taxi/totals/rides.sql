-- Trips and their revenue of one color and month. $1: color, $2: month.
select
    count(*) as trips,
    coalesce(sum(total_amount), 0) as revenue
from trips.rides
where color = $1 and month = $2
