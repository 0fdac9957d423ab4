-- Give up tables, or views; what somebody built on them since stops this.
drop {{ kind }}
{% for table in tables %}
{{ table | table }}{{ "," if not loop.last }}
{% endfor %}
