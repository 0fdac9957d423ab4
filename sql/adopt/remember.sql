-- One step of the way back.
insert into ops.way_back (place, kind, schema, name, detail) values ($1, $2, $3, $4, $5)
