-- The schema of declared tables.
create schema if not exists {{ schema | column }}
