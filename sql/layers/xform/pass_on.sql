-- Tell the layer above which keys it has to look at, and forget that this one had to. $1 and on: the scope.
with done as (
    delete from {{ touched | table }}
    where layer = 'xform' and {{ scope | bound(1) }}
)

insert into {{ touched | table }} (layer, {{ key_names | columns }})
select
    'curated',
    {{ key_names | columns }}
from pg_temp.stale
on conflict do nothing
