-- Take the change points of one date out. $1: the date.
delete from {{ raw | table }}
where load_date = $1 and {{ scope | bound(2) }}
