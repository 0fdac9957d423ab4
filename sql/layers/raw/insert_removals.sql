-- Write the change points of one date at which keys go. Grain: key and load date. $1: the date, $2: the run, $3: the
-- snapshot.
insert into {{ raw | table }} (
    {{ key_names | columns }}, {{ dated | column }}, load_date, operation, source, run_id, loaded_at
)
select
    {{ key_names | columns("c") }},
    $1::date::timestamp,
    $1::date,
    c.operation::"char",
    $3,
    $2,
    clock_timestamp()
from pg_temp.change_point as c
where c.operation = 'D'
