-- The latest attempt at one slice, locked until this transaction ends so that no later one can begin before it.
select
    attempt,
    run_id
from ops.load_attempt
where asset = $1 and partition = $2
for update
