-- One answer per key of the snapshot being loaded. A key with data counts as answered even when further
-- documents of it were quarantined.
create temporary table {{ into | column }} on commit drop as
select distinct on ({{ key_names | columns }})
    {{ key_names | columns }},
    outcome,
    digest,
    ordinal
from pg_temp.answer_row
where ({{ key_names | columns }}) is not null
order by {{ key_names | columns }}, (outcome = 'data') desc, ordinal asc;
create unique index on pg_temp.{{ into | column }} ({{ key_names | columns }});
analyze pg_temp.{{ into | column }};
