-- Take the rows of the last load out of a table.
alter table {{ table | table }} detach partition {{ part | table }} -- noqa: PRS
