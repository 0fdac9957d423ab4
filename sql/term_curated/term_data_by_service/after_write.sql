-- The place of each term, as in the current table; none for a term that is shown although it is gone.
with place as (
    select
        c.service,
        c.acad_career,
        c.strm,
        t.rownumber
    from term_curated.term_data_by_service as c
    left join term_xform.current_term_data as t
        on c.acad_career = t.acad_career and c.strm = t.strm
)

update term_curated.term_data_by_service as c
set rownumber = p.rownumber
from place as p
where
    c.service = p.service
    and c.acad_career = p.acad_career
    and c.strm = p.strm
    and c.rownumber is distinct from p.rownumber
