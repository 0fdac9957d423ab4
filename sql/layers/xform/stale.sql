-- Keys of the scope whose last change point the current table does not show. `digest` is null where the key is gone.
create temporary table stale on commit drop as
with head as (
    select distinct on ({{ key_names | columns }})
        {{ key_names | columns }}, load_date, digest
    from {{ raw | table }}
    where {{ scope | bound(1) }}
    order by {{ key_names | columns }}, load_date desc
),

shown as (
    select {{ key_names | columns }}, load_date, digest
    from {{ xform | table }}
    where {{ scope | bound(1) }}
)

select
    {{ key_names | columns }},
    h.load_date,
    h.digest,
    x.digest as shown_digest
from head as h
full join shown as x using ({{ key_names | columns }})
where
    h.digest is distinct from x.digest
    or (h.digest is not null and h.load_date <> x.load_date)
