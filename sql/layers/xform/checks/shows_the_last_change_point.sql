-- severity: error
-- blocking: true
-- The current table is the fold of the history: the last change point of every key, unless it is a removal.

-- $1 and on: the scope.
with last_change as (
    select distinct on ({{ key_names | columns }}) {{ key_names | columns }}, load_date, digest
    from {{ raw | table }}
    where {{ scope | bound(1) }}
    order by {{ key_names | columns }}, load_date desc
),

head as (
    select {{ key_names | columns }}, load_date, digest
    from last_change
    where digest is not null
),

shown as (
    select {{ key_names | columns }}, load_date, digest
    from {{ xform | table }}
    where {{ scope | bound(1) }}
)

select 1
from head as h
full join shown as x using ({{ key_names | columns }}, load_date, digest)
where h.digest is null or x.digest is null
