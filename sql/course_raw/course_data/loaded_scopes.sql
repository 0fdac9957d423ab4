-- Terms whose courses are loaded every day: the active ones.
select distinct strm::integer::text as term_code
from term_curated.term_data_by_service
where service = 'active_terms'
order by term_code
