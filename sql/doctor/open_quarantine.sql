-- How many documents are in quarantine, by entity.
select
    entity,
    count(*) as documents,
    min(load_date) as oldest
from ops.quarantine
where state = 'open'
group by entity
order by entity
