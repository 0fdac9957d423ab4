-- Remember what state the portion's keys were filtered from. Key: that of the entity.
insert into {{ marks | table }} ({{ key_names | columns }}, load_date, digest)
select {{ key_names | columns }}, load_date, digest
from pg_temp.portion
where found
on conflict ({{ key_names | columns }}) do update
    set load_date = excluded.load_date, digest = excluded.digest
