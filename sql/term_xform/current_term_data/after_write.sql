-- Number the terms by career and code. The column keeps its name for its readers; in the source it is the position
-- in one answer, which changes whenever a term is added and carries no meaning.
with place as (
    select
        acad_career,
        strm,
        row_number() over (order by acad_career collate "C", strm collate "C") as rownumber
    from term_xform.current_term_data
)

update term_xform.current_term_data as t
set rownumber = p.rownumber
from place as p
where t.acad_career = p.acad_career and t.strm = p.strm and t.rownumber is distinct from p.rownumber
