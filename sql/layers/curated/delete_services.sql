-- Take out rows of services that are no longer defined. $1: names of those that are.
with gone as (
    delete from {{ curated | table }}
    where service <> all($1::text[])
    returning service
)

select count(*) from gone
