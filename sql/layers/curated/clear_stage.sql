-- Make room for the next keys.
truncate pg_temp.portion, pg_temp.filtered
