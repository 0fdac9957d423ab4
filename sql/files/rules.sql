-- What the declared rules make of a batch of rows, in DuckDB: each rule sees what the ones before it left. `verdict` is
-- the number of the rule that keeps a row out, null where it stays. Conditions and expressions are the declaration's.
with
{% for step in rules %}
step_{{ loop.index }} as (
    select
        line,
        {% for column in columns %}
        {% if column in step.set %}
        case
            when verdict is null and ({{ step.where }}) then cast({{ step.set[column] }} as {{ types[column] }})
            else {{ column | column }}
        end as {{ column | column }},
        {% else %}
        {{ column | column }},
        {% endif %}
        {% endfor %}
        {% if step.set %}
        verdict
        {% else %}
        case when verdict is null and ({{ step.where }}) then {{ loop.index0 }} else verdict end as verdict
        {% endif %}
    from {% if loop.first %}row_batch{% else %}step_{{ loop.index0 }}{% endif %}

){% if not loop.last %},{% endif %}

{% endfor %}

select *
from step_{{ rules | length }}
