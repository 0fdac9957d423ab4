-- Take out rows of the portion's keys that services may no longer see, or see in an older state. $1: the services.
-- Rows that were filtered from the same state by the same definition stay; so do those of a key whose document could
-- not be read, unless the definition has changed.
with gone as (
    delete from {{ curated | table }} as c
    using pg_temp.portion as p
    where
        {{ key_names | same("p", "c") }}
        and c.service = any($1::text[])
    {% if not rebuild %}
        and p.stale
        and (p.found or p.digest is null)
        and not exists (
            select from pg_temp.filtered as f
            where
                f.service = c.service
                and {{ key_names | same("f", "c") }}
                and f.load_date = c.load_date
                and f.digest = c.digest
        )
    {% endif %}
    returning c.service, {{ key_names | columns("c") }}
)

select
    count(*) filter (where f.digest is not null) as replaced,
    count(*) filter (where f.digest is null) as removed
from gone as g
left join pg_temp.filtered as f on g.service = f.service and {{ key_names | same("f", "g") }}
