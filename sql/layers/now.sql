-- The moment at which rows are written that the client sends.
select clock_timestamp() as loaded_at
