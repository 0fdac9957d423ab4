-- Make room for the next service.
drop table pg_temp.filtered
