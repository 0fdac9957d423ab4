-- Keep writers away from the old tables until the transaction ends; readers are not disturbed yet.
lock table
{% for table in tables %}
{{ table | table }}{{ "," if not loop.last }}
{% endfor %}
in share row exclusive mode
