-- Let a role see a schema.
grant usage on schema {{ schema | column }} to {{ role | column }}
