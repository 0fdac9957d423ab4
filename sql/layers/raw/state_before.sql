-- State of every key of the scope before one date: the last change point before it. $1: the date.
create temporary table state_before on commit drop as
select distinct on ({{ key_names | columns }})
    {{ key_names | columns }},
    digest
from {{ raw | table }}
where load_date < $1 and {{ scope | bound(2) }}
order by {{ key_names | columns }}, load_date desc
