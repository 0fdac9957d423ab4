-- Every document that a service sees. Grain: service and key.
select
    service,
    array[{{ key_names | columns }}]::text[] as key,
    {{ document | column }} as document
from {{ curated | table }}
order by service, key
