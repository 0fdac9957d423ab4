-- severity: error
-- blocking: true
-- The last load of the date, of every scope, accounts for every key that was asked for.

-- $1: the date.
select 1
from (
    select distinct on (scope) *
    from ops.receipt
    where asset = '{{ raw }}' and load_date = $1
    order by scope asc, attempt desc
) as receipt
where
    asked is distinct from data + absent + failed + quarantined
    or data is distinct from rows_new + rows_changed + rows_unchanged
