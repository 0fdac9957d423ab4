-- What one service shall see: filtered documents by key and change point. Dies with the transaction.
create temporary table filtered (
    {% for column in key %}
    {{ column.name | column }} {{ column.sql_type }} not null,
    {% endfor %}
    load_date date not null,
    digest bytea not null,
    document jsonb not null
) on commit drop
