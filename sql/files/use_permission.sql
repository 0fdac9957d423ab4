-- A permission to pass a guard is for one load, which uses it up. $1: asset, $2: partition, $3: guard.
delete from ops.guard_override
where asset = $1 and partition = $2 and guard = $3
