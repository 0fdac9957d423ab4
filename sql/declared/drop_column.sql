-- A column that is declared no more.
alter table {{ table | table }} drop column {{ name | column }}
