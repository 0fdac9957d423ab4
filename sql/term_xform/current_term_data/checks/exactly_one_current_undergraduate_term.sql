-- severity: error
-- blocking: true
-- Exactly one undergraduate term is current; with none or several, the active terms of the last good day stay.
select count(*) as current_terms
from term_xform.current_term_data
where acad_career = 'UGRD' and current_ind = 'Y'
having count(*) <> 1
