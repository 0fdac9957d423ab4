-- The rows of every period. `periods`: first day as a literal, and the view of that period.
{% for period in periods %}
select
    {{ period.start }} as {{ column }},
{% for name in names %}
    {{ name | column }}{% if not loop.last %},{% endif %}

{% endfor %}
from {{ period.view | table }}
{% if not loop.last %}
union all
{% endif %}
{% endfor %}
