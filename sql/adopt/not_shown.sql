-- Old rows that cannot be shown: their key stands more than once, or the history by dates holds no document of it.
with known as (
    select distinct {{ key_names | columns }}
    from pg_temp.{{ state | column }}
    where operation in ('I', 'U')
),

told as (
    select distinct {{ key | columns }}
    from {{ table | table }}
    inner join known using ({{ key_names | columns }})
)

select
    (select count(*) from {{ table | table }})
    - (select count(*) from told)
