-- Remember what was adopted. Key: the raw table.
insert into ops.adoption (raw_table, last_date, rows_taken, states, change_points, run_id, adopted_at)
values ($1, $2, $3, $4, $5, $6, clock_timestamp())
