-- What the server says of this session.
select
    tls.version as tls_version,
    coalesce(tls.ssl, false) as encrypted,
    pg_catalog.current_setting('server_version') as version,
    pg_catalog.transaction_timestamp() as server_time
from (values (pg_catalog.pg_backend_pid())) as this (pid)
left join pg_catalog.pg_stat_ssl as tls on this.pid = tls.pid
