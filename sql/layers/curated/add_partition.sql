-- Make a service's partition. Attached rather than made in place, so that readers of the table need not wait. A bound
-- cannot be a parameter.
create table {{ partition | table }} (like {{ curated | table }} including all);
alter table {{ curated | table }} attach partition {{ partition | table }} for values in ('{{ service | replace("'", "''") }}'); -- noqa: PRS
