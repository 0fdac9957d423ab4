-- Some keys at a time, and what services shall see of them. Both die with the transaction.
create temporary table portion (
    {% for column in key %}
    {{ column.name | column }} {{ column.sql_type }} not null,
    {% endfor %}
    load_date date,
    digest bytea,
    stale boolean not null,
    found boolean not null
) on commit drop;
create temporary table filtered (
    service varchar(64) not null,
    {% for column in key %}
    {{ column.name | column }} {{ column.sql_type }} not null,
    {% endfor %}
    load_date date not null,
    digest bytea not null,
    document jsonb
) on commit drop;
