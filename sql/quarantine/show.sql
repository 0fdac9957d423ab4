-- One quarantined document.
select
    quarantine_id,
    entity,
    load_date,
    scope,
    document_key,
    rule,
    reason,
    source,
    state,
    document
from ops.quarantine
where quarantine_id = $1
