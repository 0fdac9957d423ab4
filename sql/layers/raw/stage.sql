-- Temporary tables of one load: they die with the transaction, so a killed load leaves nothing behind.
create temporary table answer_row (
    {% for column in key %}
    {{ column.name | column }} {{ column.sql_type }},
    {% endfor %}
    outcome text not null,
    digest bytea,
    ordinal bigint not null
) on commit drop;
create temporary table answer_document (
    ordinal bigint not null,
    document jsonb,
    source text not null
) on commit drop;
