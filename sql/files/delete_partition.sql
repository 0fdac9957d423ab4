-- The rows of one partition, which the same transaction brings anew. Parameters: the values of its columns.
delete from {{ table | table }}
where {{ key_names | bound(1) }}
