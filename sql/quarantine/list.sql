-- Quarantined documents without their content, newest first. $1: entity or null; $2: state or null.
select
    quarantine_id,
    entity,
    load_date,
    scope,
    document_key,
    rule,
    reason,
    source,
    state
from ops.quarantine
where ($1::text is null or entity = $1) and ($2::text is null or state = $2)
order by load_date desc, quarantine_id desc
