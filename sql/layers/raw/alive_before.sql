-- How many keys of the scope had a document before one date. $1: the date.
select count(*) from (
    select distinct on ({{ key_names | columns }}) digest
    from {{ raw | table }}
    where load_date < $1 and {{ scope | bound(2) }}
    order by {{ key_names | columns }}, load_date desc
) as state
where digest is not null
