-- The schema of a declared table, where it is the first one in it.
create schema if not exists {{ table.schema | column }}
