-- Zones, and those whose name is the text NA.
select
    count(*) as total,
    count(*) filter (where zone = 'NA') as called_na
from trips.zones
