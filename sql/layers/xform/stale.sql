-- Keys of the scope whose last change point the current table does not show, of all or of those only that were touched.
-- `digest` is null where the key is gone. $1 and on: the scope.
create temporary table stale on commit drop as
{% if whole %}
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

{% else %}
with wanted as (
    select {{ key_names | columns }}
    from {{ touched | table }}
    where layer = 'xform' and {{ scope | bound(1) }}
),

head as (
    select
        {{ key_names | columns("w") }},
        r.load_date,
        r.digest
    from wanted as w
    cross join lateral (
        select
            h.load_date,
            h.digest
        from {{ raw | table }} as h
        where {{ key_names | same("h", "w") }}
        order by h.load_date desc
        limit 1
    ) as r
),

shown as (
    select {{ key_names | columns }}, load_date, digest
    from {{ xform | table }}
    where ({{ key_names | columns }}) in (select {{ key_names | columns }} from wanted)
)

{% endif %}

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
