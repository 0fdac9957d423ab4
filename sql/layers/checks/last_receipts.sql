-- The last committed load of a date, one row per scope. $1: asset, $2: load date, $3: only this scope, or null.
select distinct on (scope)
    scope,
    rows_removed,
    rows_changed,
    rows_unchanged
from ops.receipt
where asset = $1 and load_date = $2 and ($3::text is null or scope = $3)
order by scope asc, attempt desc
