-- Let a trigger fire as it did before.
alter table {{ table | table }} enable
{% if kind == "replica" %}
replica
{% elif kind == "always" %}
always
{% endif %}
trigger {{ into | column }}
