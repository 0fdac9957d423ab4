-- How the states of an entity are looked up.
create unique index on pg_temp.{{ state | column }} ({{ key_names | columns }}, place);
analyze pg_temp.{{ state | column }}
