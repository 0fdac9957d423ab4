-- Give up a schema that is empty now.
drop schema {{ into | column }}
