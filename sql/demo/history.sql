-- Change points with the digests of their documents.
select
    array[{{ key_names | columns }}]::text[] as key,
    load_date::text as day,
    operation::text as operation,
    encode(digest, 'hex') as digest
from {{ raw | table }}
order by key, load_date
