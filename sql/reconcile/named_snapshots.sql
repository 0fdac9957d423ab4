-- The snapshot that each partition was last loaded from. $1: assets that hold snapshots themselves.
select distinct on (asset, partition)
    asset,
    partition,
    snapshot_sha256
from ops.receipt
where snapshot_sha256 is not null and asset <> all($1::text[])
order by asset asc, partition asc, attempt desc
