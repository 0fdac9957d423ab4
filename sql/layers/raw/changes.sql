-- Change points of one date: answers that differ from the state before. $1: whether a key that is not in the
-- snapshot is gone (complete population). Failed and quarantined keys are no answers.
create temporary table change_point on commit drop as
with answered as (
    select {{ key_names | columns }}, digest, ordinal
    from pg_temp.answer
    where outcome in ('data', 'absent')
    union all
    select {{ key_names | columns("b") }}, null::bytea, null::bigint
    from pg_temp.state_before as b
    where $1 and b.digest is not null and not exists (
        select from pg_temp.answer as a
        where {{ key_names | same("a", "b") }}
    )
)

select
    {{ key_names | columns("n") }},
    n.digest,
    n.ordinal,
    case
        when n.digest is null then 'D'
        when b.digest is null then 'I'
        else 'U'
    end as operation
from answered as n
left join pg_temp.state_before as b using ({{ key_names | columns }})
where n.digest is distinct from b.digest
