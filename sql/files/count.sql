-- How many rows a partition has, or a table. Parameters: the values of its columns.
select count(*)
from {{ table | table }}
where {{ key_names | bound(1) }}
