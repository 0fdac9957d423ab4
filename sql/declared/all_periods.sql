-- The rows of every period. `periods`: first day as a literal, the view of that period, and the types of columns that
-- it does not have.
{% for period in periods %}
select
    {{ period.start }} as {{ column }},
{% for name in names %}
    {% if name in period.missing %}cast(null as {{ period.missing[name] }}) as {% endif %}{{ name | column }}
    {%- if not loop.last %},{% endif %}

{% endfor %}
from {{ period.view | table }}
{% if not loop.last %}
union all
{% endif %}
{% endfor %}
