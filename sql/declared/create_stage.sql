-- Rows of a load on their way into a table that keeps its other rows.
create temporary table {{ stage | column }} on commit drop as
select * from {{ table | table }} -- noqa: AM04
with no data
