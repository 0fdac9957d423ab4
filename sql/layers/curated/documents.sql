-- Keys of a scope whose current state is not what their rows were filtered from, of all or of those only that were
-- touched, and with $1 every key. Grain: key. `load_date` is null where the key is gone, `document` where the history
-- has moved on since the current table was loaded. $2 and on: the scope.
{% if whole %}
with shown as (
    select {{ key_names | columns }}, load_date, digest
    from {{ xform | table }}
    where {{ scope | bound(2) }}
),

known as (
    select {{ key_names | columns }}, load_date, digest
    from {{ marks | table }}
    where {{ scope | bound(2) }}
),

{% else %}
with wanted as (
    select {{ key_names | columns }}
    from {{ touched | table }}
    where layer = 'curated' and {{ scope | bound(2) }}
),

shown as (
    select {{ key_names | columns }}, load_date, digest
    from {{ xform | table }}
    where ({{ key_names | columns }}) in (select {{ key_names | columns }} from wanted)
),

known as (
    select {{ key_names | columns }}, load_date, digest
    from {{ marks | table }}
    where ({{ key_names | columns }}) in (select {{ key_names | columns }} from wanted)
),

{% endif %}

state as (
    select
        {{ key_names | columns }},
        x.load_date,
        x.digest,
        coalesce(x.load_date <> m.load_date or x.digest <> m.digest, true) as stale
    from shown as x
    full join known as m using ({{ key_names | columns }})
)

select
    {{ key_names | columns("s") }},
    s.load_date,
    s.digest,
    s.stale,
    r.{{ document | column }} as document
from state as s
left join {{ raw | table }} as r
    on {{ key_names | same("r", "s") }} and s.load_date = r.load_date and s.digest = r.digest
where $1::boolean or s.stale
