-- The active terms that services see.
select
    acad_career,
    strm
from term_curated.term_data_by_service
where service = 'active_terms'
order by acad_career, strm
