-- Check constraints that somebody added to a table: a partition must have them too. $1: the table.
select
    conname::text as name,
    pg_get_constraintdef(oid) as definition
from pg_catalog.pg_constraint
where conrelid = $1 and contype = 'c'
order by conname
