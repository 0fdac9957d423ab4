-- Trips of one color and month with the names of their zones and of the way they were paid. Grain: one row per trip; a
-- zone or a way to pay that no lookup knows has no name. $1: color, $2: month.
insert into trips.named_rides (
    color, month, pickup_datetime, dropoff_datetime, pickup_borough, pickup_zone, dropoff_borough, dropoff_zone,
    payment, passenger_count, trip_distance, fare_amount, total_amount
)
select
    r.color,
    r.month,
    r.pickup_datetime,
    r.dropoff_datetime,
    f.borough as pickup_borough,
    f.zone as pickup_zone,
    t.borough as dropoff_borough,
    t.zone as dropoff_zone,
    p.description as payment,
    r.passenger_count,
    r.trip_distance,
    r.fare_amount,
    r.total_amount
from trips.rides as r
left join trips.zones as f on r.pickup_zone_id = f.zone_id
left join trips.zones as t on r.dropoff_zone_id = t.zone_id
left join trips.payment_types as p on r.payment_type = p.payment_type
where r.color = $1 and r.month = $2
