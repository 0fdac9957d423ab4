-- Take out what a service that selects its keys may no longer see, or sees in an older state. $1: the service;
-- $2: rebuild every row.
with gone as (
    delete from {{ curated | table }} as c
    where
        c.service = $1
        and ($2 or not exists (
            select from pg_temp.filtered as f
            where {{ key_names | same("f", "c") }} and f.load_date = c.load_date and f.digest = c.digest
        ))
    returning {{ key_names | columns("c") }}
)

select
    count(*) filter (where f.digest is not null) as replaced,
    count(*) filter (where f.digest is null) as removed
from gone as g
left join pg_temp.filtered as f on {{ key_names | same("f", "g") }}
