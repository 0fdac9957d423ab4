-- severity: error
-- blocking: true
-- Every curated row goes back to a change point of its key.

-- $1 and on: the scope.
select 1
from {{ curated | table }} as c
where
    {{ scope | bound(1, "c") }}
    and not exists (
        select from {{ raw | table }} as r
        where {{ key_names | same("r", "c") }} and r.load_date = c.load_date and r.digest = c.digest
    )
