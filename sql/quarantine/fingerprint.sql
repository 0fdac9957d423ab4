-- Identity of one quarantined document within its partition.
select fingerprint
from ops.quarantine
where quarantine_id = $1
