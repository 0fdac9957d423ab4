-- The last change point of one key up to a date. Values of the key, then the date.
select
    load_date,
    operation,
    {{ document | column }} as document,
    run_id
from {{ raw | table }}
where {{ key_names | bound(1) }} and load_date <= ${{ key_names | length + 1 }}
order by load_date desc
limit 1
