-- A check constraint of the table, on the rows of a load. `definition` comes from the catalog.
alter table {{ part | table }} add constraint {{ name | column }} {{ definition }}
