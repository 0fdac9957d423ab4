-- Let a role read a table.
grant select on {{ table | table }} to {{ role | column }}
