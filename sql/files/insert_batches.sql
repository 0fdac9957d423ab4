-- Bring Arrow batches, registered as row_batches, into a table of DuckDB.
insert into {{ table | table }} ({{ names | columns }})
select {{ names | columns }}
from row_batches
