-- Keys that stand more than once, or are null in part.
select count(*) from (
    select {{ key | columns }}
    from {{ table | table }}
    group by {{ key | columns }}
    having count(*) > 1{% for name in key %} or {{ name | column }} is null{% endfor %}

) as offending
