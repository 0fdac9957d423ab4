-- Keep readers out for the moment of the swap.
lock table
{% for table in tables %}
    {{ table | table }}{% if not loop.last %},{% endif %}

{% endfor %}
in access exclusive mode
