-- severity: error
-- blocking: true
-- The rows of every key were filtered from its current state, and none are left of a key that is gone.

-- $1 and on: the scope.
with shown as (
    select {{ key_names | columns }}, load_date, digest
    from {{ xform | table }}
    where {{ scope | bound(1) }}
),

known as (
    select {{ key_names | columns }}, load_date, digest
    from {{ marks | table }}
    where {{ scope | bound(1) }}
)

select 1
from shown as x
full join known as m using ({{ key_names | columns }}, load_date, digest)
where x.digest is null or m.digest is null
