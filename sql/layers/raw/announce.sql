-- Tell the layer above which keys it has to look at.
insert into {{ touched | table }} (layer, {{ key_names | columns }})
select
    'xform',
    {{ key_names | columns }}
from pg_temp.touched
on conflict do nothing
