-- Whether a table or view is there. $1: its name.
select to_regclass($1) is not null
