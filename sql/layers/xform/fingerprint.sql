-- What a current table holds: its rows, those of a scope, and of these keys, dates and digests as one number.
-- $1 and on: the scope.
select
    count(*) as total,
    count(*) filter (where {{ scope | bound(1) }}) as in_scope,
    coalesce(
        sum(hash_record_extended(row({{ key_names | columns }}, load_date, digest), 0))
        filter (where {{ scope | bound(1) }}),
        0
    ) as fingerprint
from {{ xform | table }}
