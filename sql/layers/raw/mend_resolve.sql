-- A touched key is settled at the first later date that answered for it.
delete from pg_temp.touched as t
using pg_temp.mended as m
where {{ key_names | same("t", "m") }}
