-- Keys whose state at the end of the date is not what earlier loads left: later change points of these need
-- mending. Keeps the document that the slice is about to lose. $1: the date.
create temporary table touched on commit drop as
with old_slice as (
    select {{ key_names | columns }}, digest, {{ document | column }} as document
    from {{ raw | table }}
    where load_date = $1 and {{ scope | bound(2) }}
),

keys as (
    select {{ key_names | columns }} from old_slice
    union
    select {{ key_names | columns }} from pg_temp.change_point
),

compared as (
    select
        {{ key_names | columns("k") }},
        case when o.{{ key_names[0] | column }} is null then b.digest else o.digest end as old_digest,
        case when c.operation is null then b.digest else c.digest end as new_digest,
        o.document as old_document
    from keys as k
    left join old_slice as o using ({{ key_names | columns }})
    left join pg_temp.change_point as c using ({{ key_names | columns }})
    left join pg_temp.state_before as b using ({{ key_names | columns }})
)

select {{ key_names | columns }}, old_digest, new_digest, old_document
from compared
where old_digest is distinct from new_digest
