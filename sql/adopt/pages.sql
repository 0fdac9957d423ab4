-- How many pages a table has.
select pg_relation_size($1::oid) / current_setting('block_size')::bigint
