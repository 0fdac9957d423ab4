-- severity: error
-- blocking: true
-- The current table is the fold of the history: the last change point of every key, unless it is a removal.
with last_change as (
    select distinct on ({{ key_names | columns }}) {{ key_names | columns }}, load_date, digest
    from {{ raw | table }}
    order by {{ key_names | columns }}, load_date desc
),

head as (
    select {{ key_names | columns }}, load_date, digest
    from last_change
    where digest is not null
)

select 1
from head as h
full join {{ xform | table }} as x using ({{ key_names | columns }}, load_date, digest)
where h.digest is null or x.digest is null
