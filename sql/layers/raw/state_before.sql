-- State before one date, the last change point before it, of every key of the scope or of those only that the answers
-- or the date's change points of an earlier load speak of. $1: the date.
create temporary table state_before on commit drop as
{% if of_answers %}
with wanted as (
    select {{ key_names | columns }} from pg_temp.answer
    union
    select {{ key_names | columns }} from {{ raw | table }}
    where load_date = $1 and {{ scope | bound(2) }}
)

{% endif %}
select distinct on ({{ key_names | columns }})
    {{ key_names | columns }},
    digest
from {{ raw | table }}
where
    load_date < $1
    and {{ scope | bound(2) }}
{% if of_answers %}
    and ({{ key_names | columns }}) in (select {{ key_names | columns }} from wanted)
{% endif %}
order by {{ key_names | columns }}, load_date desc
