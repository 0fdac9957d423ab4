-- The reason for which one slice may pass one guard, if somebody gave one.
select reason
from ops.guard_override
where asset = $1 and partition = $2 and guard = $3
