-- Documents in a range of pages of an old table, each with its place. Grain: row. $1, $2: first place and the end.
select
    ctid as row_id,
    {{ document | column }} as document
from {{ table | table }}
where
    ctid >= $1 and ctid < $2
    {% if sensitive %}
    -- Only where a member may have a name that is never kept.
    and {{ document | column }}::text ~* '"({{ sensitive | join("|") }})": '
    {% endif %}
