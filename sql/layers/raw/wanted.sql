-- Rows of the snapshot whose documents are written: those that changed.
select ordinal
from pg_temp.change_point
where operation <> 'D'
