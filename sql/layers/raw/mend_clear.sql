-- Make room for the answers of the next later date.
truncate pg_temp.answer_row, pg_temp.answer_document;
drop table if exists pg_temp.later, pg_temp.mended;
