-- Take the mended change points of a later date out before they are written anew. $1: that date.
delete from {{ raw | table }} as r
using pg_temp.mended as m
where r.load_date = $1 and {{ key_names | same("r", "m") }}
