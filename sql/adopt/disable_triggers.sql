-- Triggers of a table that is set aside would write to the tables that now have the names of the old ones.
alter table {{ table | table }} disable trigger user
