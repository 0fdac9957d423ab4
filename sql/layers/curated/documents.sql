-- Documents of the current state, by key. Grain: key.
select
    {{ key_names | columns("r") }},
    r.load_date,
    r.digest,
    r.{{ document | column }} as document
from {{ xform | table }} as x
inner join {{ raw | table }} as r on {{ key_names | same("r", "x") }} and r.load_date = x.load_date
