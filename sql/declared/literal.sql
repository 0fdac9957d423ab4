-- A text as a literal. $1: the text.
select quote_literal($1::text)
