{# Whether a document holds a key that is never kept. The text tells most documents apart in a fraction of the time. #}
{% macro holds(document, sensitive) %}
case
        when {{ document }}::text !~* '"({{ sensitive | join("|") }})": ' then false
        else exists (
            select from jsonb_path_query(
                {{ document }}, 'strict $.** ? (@.type() == "object").keyvalue().key'
            ) as found (name)
            where lower(found.name #>> '{}') in ('{{ sensitive | join("', '") }}')
        )
    end
{%- endmacro %}
