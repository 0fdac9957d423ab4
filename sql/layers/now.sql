-- The clock that every row is dated by.
select clock_timestamp()
