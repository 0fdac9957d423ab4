-- Dates on which anything changed, newest first: the dates a selection can depend on.
select distinct load_date
from {{ raw | table }}
order by load_date desc
