-- severity: warn
-- blocking: false
-- Term was loaded on the same day; else courses were asked for by the active terms of an earlier one.

-- $1: the date.
select 1
where not exists (
    select from ops.receipt
    where asset = 'term_curated.term_data_by_service' and load_date = $1
)
