-- Codes of the terms for which courses are loaded, as the last good day of Term left them. $1: service.
select distinct strm::integer as term_code
from term_curated.term_data_by_service
where service = $1
order by term_code
