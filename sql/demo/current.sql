-- Keys of the current state with the digests of their documents.
select
    array[{{ key_names | columns }}]::text[] as key,
    encode(digest, 'hex') as digest
from {{ xform | table }}
order by key
