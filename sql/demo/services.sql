-- What each service sees of a table. Grain: service.
select
    service,
    count(*) as rows_seen
from {{ curated | table }}
group by service
order by service
