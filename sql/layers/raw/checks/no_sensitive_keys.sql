-- severity: error
-- blocking: true
-- No document written on the date holds a key that is never kept, at any depth and in any letter case.

-- $1: the date.
select 1
from {{ raw | table }}
where
    load_date = $1
    and exists (
        select from jsonb_path_query(
            {{ document | column }}, 'strict $.** ? (@.type() == "object").keyvalue().key'
        ) as found (name)
        where lower(found.name #>> '{}') in ('{{ sensitive | join("', '") }}')
    )
