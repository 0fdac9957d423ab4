-- Write the change points of one date. Grain: key and load date. $1: the date, $2: the run, $3: the snapshot.
insert into {{ raw | table }} (
    {{ key_names | columns }}, {{ document | column }}, {{ dated | column }}, load_date,
    operation, digest, source, run_id, loaded_at
)
select
    {{ key_names | columns("c") }},
    d.document,
    $1::date::timestamp,
    $1::date,
    c.operation::"char",
    c.digest,
    coalesce(d.source, $3),
    $2,
    clock_timestamp()
from pg_temp.change_point as c
left join pg_temp.answer_document as d on c.ordinal = d.ordinal
