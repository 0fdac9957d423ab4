-- How many rows a check finds.
select count(*) from (
{{ query }}
) as offending
