-- What a declared table was last loaded from. $1: asset.
select
    definition,
    snapshot_sha256,
    load_date,
    rows_total,
    run_id
from ops.declared_load
where asset = $1
