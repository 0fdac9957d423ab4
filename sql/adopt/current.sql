-- Show the same current rows as before, with the change point that each goes back to. Grain: key. $1: who adopts.
insert into {{ xform | table }} (
    {{ key_names | columns }}, {{ names | columns }}, modified_date, load_date, digest, run_id, loaded_at
)
with head as (
    select distinct on ({{ key_names | columns }}) {{ key_names | columns }}, load_date, digest
    from {{ raw | table }}
    order by {{ key_names | columns }}, load_date desc
)

select distinct on ({{ key_names | columns("x") }})
    {{ key_names | columns("x") }},
    {% for name in names %}
    {{ ("coalesce(p.document, x." ~ (name | column) ~ ")") if name == document else ("x." ~ (name | column)) }},
    {% endfor %}
    x.modified_date,
    h.load_date,
    h.digest,
    $1::text,
    clock_timestamp()
from {{ old_xform | table }} as x
inner join head as h on {{ key_names | same("h", "x") }} and h.digest is not null
left join pg_temp.{{ prepared | column }} as p on p.layer = 'xform' and p.row_id = x.ctid
order by {{ key_names | columns("x") }}, x.modified_date desc, x.ctid desc
