-- Whether a layer has to look at no key of a scope. $1: layer. $2 and on: the scope.
select not exists (
    select from {{ touched | table }}
    where layer = $1 and {{ scope | bound(2) }}
)
