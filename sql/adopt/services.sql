-- Services that the old table names, with their rows. Grain: service.
select
    service,
    count(*) as rows_shown
from {{ curated | table }}
group by service
order by service
