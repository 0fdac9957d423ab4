-- Take out what the current table shows wrongly; what is still alive is written anew in the same transaction.
delete from {{ xform | table }} as x
using pg_temp.stale as s
where {{ key_names | same("x", "s") }}
