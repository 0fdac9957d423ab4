-- Documents of the current state. $1 and on: the scope.
select r.{{ document | column }} as document
from {{ xform | table }} as x
inner join {{ raw | table }} as r on {{ key_names | same("r", "x") }} and x.load_date = r.load_date
where {{ scope | bound(1, "x") }}
