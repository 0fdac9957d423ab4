-- The rows that an earlier load of a date left. $1: the date.
delete from {{ table | table }}
where load_date = $1
