-- Make the rows of a load those of a table.
alter table {{ table | table }} attach partition {{ part | table }} default -- noqa: PRS
