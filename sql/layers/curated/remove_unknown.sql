-- Take out rows of keys that do not exist now, whoever left them there. $1: services; $2 and on: the scope.
with gone as (
    delete from {{ curated | table }} as c
    where
        c.service = any($1::text[])
        and {{ scope | bound(2) }}
        and not exists (
            select from {{ xform | table }} as x
            where {{ key_names | same("x", "c") }}
        )
    returning c.service
)

select count(*) from gone
