-- The rows of the last load.
drop table {{ part | table }}
