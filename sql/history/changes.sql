-- Change points of one key, oldest first, each by the members of its document. Values of the key, then the entity, the
-- key as texts, and the path that is asked for, or null: members that have nothing to do with it are left out.
-- With what came and went within a date of adopted history. Grain: change point and member; a change point without
-- members has one row, without a name.
with point as (
    select
        load_date,
        null::bigint as place,
        run_id,
        {{ document | column }} as document
    from {{ raw | table }}
    where {{ key_names | bound(1) }}
    union all
    select
        load_date,
        place,
        run_id,
        document
    from ops.adopted_state
    where
        entity = ${{ key_names | length + 1 }}
        and document_key = ${{ key_names | length + 2 }}::text[]
)

select
    p.load_date,
    p.place,
    p.run_id,
    m.name,
    m.value
from point as p
left join lateral jsonb_each(case jsonb_typeof(p.document) when 'object' then p.document end) as m (name, value)
    on
        ${{ key_names | length + 3 }}::text is null
        -- A name may hold the characters that part a path.
        or starts_with(${{ key_names | length + 3 }}, '/' || m.name)
        or starts_with('/' || m.name, ${{ key_names | length + 3 }})
order by p.load_date, p.place
