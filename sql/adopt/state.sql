-- Every distinct state of every key, in order: what the history held, then what the current table shows.
-- $1: the time zone that the old timestamps were written in. `load_date` is the date of the campus on which a state
-- began; `operation` is set where it is the last of its date and differs from the state before, which makes it a
-- change point; the others come and go within a date. Grain: key and place.
create temporary table {{ into | column }} on commit drop as
with written as (
    select
        {{ key_names | columns("o") }},
        o.{{ dated | column }} as written_at,
        0 as kind,
        o.ctid as row_id,
        p.digest
    from {{ raw | table }} as o
    inner join pg_temp.{{ prepared | column }} as p on p.layer = 'raw' and o.ctid = p.row_id
),

{% if shows_documents %}
shown as (
    select
        {{ key_names | columns("o") }},
        o.modified_date as written_at,
        1 as kind,
        o.ctid as row_id,
        p.digest
    from {{ xform | table }} as o
    inner join pg_temp.{{ prepared | column }} as p on p.layer = 'xform' and o.ctid = p.row_id
),
{% else %}
shown as (
    select *
    from written
    where false
),
{% endif %}

ending as (
    select max(e.written_at) as written_at
    from (
        select written_at from written
        union all
        select written_at from shown
    ) as e
),

hidden as (
    select distinct
        {{ key_names | columns("w") }},
        e.written_at,
        2 as kind,
        null::tid as row_id,
        null::bytea as digest
    from written as w
    cross join ending as e
    where not exists (
        select from {{ xform | table }} as x
        where {{ key_names | same("x", "w") }}
    )
),

last_written as (
    select
        {{ key_names | columns }},
        max(written_at) as written_at
    from written
    group by {{ key_names | columns }}
),

event as (
    -- What the current table shows is what readers know: it comes last, whenever its row was touched.
    select * from written
    union all
    select
        {{ key_names | columns("s") }},
        greatest(s.written_at, w.written_at) as written_at,
        s.kind,
        s.row_id,
        s.digest
    from shown as s
    left join last_written as w using ({{ key_names | columns }})
    union all
    select * from hidden
),

stepped as (
    select
        *,
        row_number() over (
            partition by {{ key_names | columns }}
            order by written_at, kind, row_id
        ) as place,
        lag(digest) over (
            partition by {{ key_names | columns }}
            order by written_at, kind, row_id
        ) as digest_before
    from event
),

begun as (
    select
        {{ key_names | columns }},
        written_at,
        kind,
        row_id,
        digest,
        place,
        ((written_at at time zone $1::text) at time zone '{{ zone }}')::date as load_date
    from stepped
    where place = 1 or digest is distinct from digest_before
),

marked as (
    select
        *,
        lead(load_date) over (
            partition by {{ key_names | columns }}
            order by place
        ) as next_date
    from begun
),

compared as (
    select
        {{ key_names | columns }},
        place,
        lag(digest) over (
            partition by {{ key_names | columns }}
            order by place
        ) as digest_before
    from marked
    where next_date is distinct from load_date
)

select
    {{ key_names | columns("m") }},
    m.written_at,
    m.load_date,
    m.place,
    m.kind,
    m.row_id,
    m.digest,
    case
        when m.next_date = m.load_date or not (m.digest is distinct from c.digest_before) then null
        when m.digest is null then 'D'
        when c.digest_before is null then 'I'
        else 'U'
    end as operation
from marked as m
left join compared as c using ({{ key_names | columns }}, place)
