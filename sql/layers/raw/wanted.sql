-- Rows of the snapshot whose documents are written: those that changed, and how.
select
    ordinal,
    operation
from pg_temp.change_point
where operation <> 'D'
