-- Change points of a later date, for the touched keys it answered for. $1: that date, $2: whether its population
-- was complete. `document` is for an answer whose snapshot keeps digests only: raw has it at that date, or as the
-- state that it repeated.
create temporary table mended on commit drop as
select
    {{ key_names | columns("t") }},
    t.new_digest as digest_before,
    l.digest,
    l.ordinal,
    coalesce(
        r.{{ document | column }},
        case when t.old_digest = l.digest then t.old_document end,
        (
            select h.{{ document | column }}
            from {{ raw | table }} as h
            where {{ key_names | same("h", "t") }} and h.digest = l.digest
            order by h.load_date
            limit 1
        )
    ) as document
from pg_temp.touched as t
left join pg_temp.later as l using ({{ key_names | columns }})
left join {{ raw | table }} as r
    on r.load_date = $1 and {{ key_names | same("r", "t") }}
where l.outcome in ('data', 'absent') or (l.outcome is null and $2)
