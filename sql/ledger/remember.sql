-- Note what a load leaves. Key: asset and scope. $1: asset, $2: scope, $3: the fingerprint.
insert into ops.table_state as latest (asset, scope, fingerprint)
values ($1, $2, $3)
on conflict (asset, scope) do update
    set fingerprint = excluded.fingerprint
where latest.fingerprint <> excluded.fingerprint
