-- Rows of a table.
select count(*) from {{ table | table }}
