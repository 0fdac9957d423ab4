-- severity: error
-- blocking: true
-- The active terms are two to four undergraduate terms, of which exactly one is current.
select count(*) as active_terms
from term_curated.term_data_by_service
where service = 'active_terms'
having
    count(*) not between 2 and 4
    or count(*) filter (where current_ind = 'Y') <> 1
    or bool_or(acad_career <> 'UGRD')
