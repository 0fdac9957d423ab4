-- Rows of a later snapshot whose documents are written: those that are changes now.
select ordinal
from pg_temp.mended
where digest is not null and digest is distinct from digest_before
