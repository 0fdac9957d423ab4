-- Whether no service sees anything of a scope yet. $1 and on: the scope.
select not exists (
    select from {{ curated | table }}
    where {{ scope | bound(1) }}
)
