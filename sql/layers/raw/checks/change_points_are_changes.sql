-- severity: error
-- blocking: true
-- Every row of the history is a change against the row before: inserts follow nothing or a removal, updates and
-- removals follow a document, and no row repeats the digest before it.

-- $1 and on: the scope.
with steps as (
    select
        operation,
        digest,
        lag(digest) over (partition by {{ key_names | columns }} order by load_date) as digest_before
    from {{ raw | table }}
    where {{ scope | bound(1) }}
)

select operation
from steps
where
    (operation = 'I' and digest_before is not null)
    or (operation <> 'I' and digest_before is null)
    or (operation <> 'D' and digest = digest_before)
