-- Forget keys that are gone, or whose document could not be read: the next load looks at these again.
delete from {{ marks | table }} as m
using pg_temp.portion as p
where {{ key_names | same("p", "m") }} and not p.found
