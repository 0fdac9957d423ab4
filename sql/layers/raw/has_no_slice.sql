-- Whether the history has no change point of one date. $1: the date. $2 and on: the scope.
select not exists (
    select from {{ raw | table }}
    where load_date = $1 and {{ scope | bound(2) }}
)
