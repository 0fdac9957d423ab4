-- Ways to pay.
select count(*) as total
from trips.payment_types
