-- What the last load of a scope of a table left in it. $1: asset, $2: scope.
select fingerprint
from ops.table_state
where asset = $1 and scope = $2
