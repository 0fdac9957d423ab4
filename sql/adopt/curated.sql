-- Show every service the same rows as before, with the last change point of their key that holds a document.
-- Grain: service and key. $1: who adopts.
insert into {{ curated | table }} (
    service, {{ key_names | columns }}, {{ names | columns }}, modified_date, load_date, digest, run_id, loaded_at
)
with head as (
    select distinct on ({{ key_names | columns }}) {{ key_names | columns }}, load_date, digest
    from {{ raw | table }}
    where digest is not null
    order by {{ key_names | columns }}, load_date desc
)

select
    x.service,
    {{ key_names | columns("x") }},
    {% for name in names %}
    {{ ("coalesce(p.document, x." ~ (name | column) ~ ")") if name == document else ("x." ~ (name | column)) }},
    {% endfor %}
    x.modified_date,
    h.load_date,
    h.digest,
    $1::text,
    clock_timestamp()
from {{ old_curated | table }} as x
inner join head as h on {{ key_names | same("h", "x") }}
left join pg_temp.{{ prepared | column }} as p on p.layer = 'curated' and p.row_id = x.ctid
