-- Write the mended change points of a later date. $1: that date, $2: the run, $3: the snapshot of that date.
insert into {{ raw | table }} (
    {{ key_names | columns }}, {{ document | column }}, {{ dated | column }}, load_date,
    operation, digest, source, run_id, loaded_at
)
select
    {{ key_names | columns("m") }},
    coalesce(d.document, m.document),
    $1::date::timestamp,
    $1::date,
    case
        when m.digest is null then 'D'
        when m.digest_before is null then 'I'
        else 'U'
    end::"char",
    m.digest,
    coalesce(d.source, $3),
    $2,
    clock_timestamp()
from pg_temp.mended as m
left join pg_temp.answer_document as d using (ordinal)
where m.digest is distinct from m.digest_before
