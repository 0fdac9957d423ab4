-- A view of one period, or of all of them. `query` is made of parsed expressions, quoted names and literals.
create or replace view {{ view | table }} as
{{ query }}
