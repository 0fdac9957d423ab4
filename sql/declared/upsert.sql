-- Newer rows take the place of older ones with the same key, whatever the order of loads.
insert into {{ table | table }} as kept ({{ names | columns }})
select {{ names | columns }}
from pg_temp.{{ stage | column }}
on conflict ({{ key | columns }}) do update
    set
    {% for name in names %}
        {{ name | column }} = excluded.{{ name | column }}{% if not loop.last %},{% endif %}

    {% endfor %}
    where kept.load_date <= excluded.load_date
