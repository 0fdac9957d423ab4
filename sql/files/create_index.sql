-- The index by which a partition is found.
create index on {{ table | table }} ({{ key_names | columns }})
