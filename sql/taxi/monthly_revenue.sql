-- Revenue of one color and month by the zone where trips begin. Grain: one row per color, month, borough and zone;
-- trips from a zone that no lookup knows are one of them. $1: color, $2: month.
insert into trips.monthly_revenue (
    color, month, borough, zone, trips, revenue, fares, average_distance, average_passengers
)
select
    color,
    month,
    coalesce(pickup_borough, 'Unknown') as borough,
    coalesce(pickup_zone, 'Unknown') as zone,
    count(*) as trips,
    sum(total_amount) as revenue,
    sum(fare_amount) as fares,
    round(avg(trip_distance), 2) as average_distance,
    round(avg(passenger_count), 2) as average_passengers
from trips.named_rides
where color = $1 and month = $2
group by color, month, coalesce(pickup_borough, 'Unknown'), coalesce(pickup_zone, 'Unknown')
