-- severity: warn
-- blocking: false
-- A term ends after it begins, where both days are written as YYYYMMDD.
select
    acad_career,
    strm
from term_xform.current_term_data
where term_begin_dt ~ '^\d{8}$' and term_end_dt ~ '^\d{8}$' and term_end_dt < term_begin_dt
