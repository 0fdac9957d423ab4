-- The number of a run, given when it first begins to load anything. $1: run.
insert into ops.run (run_id, begun_at)
values ($1, clock_timestamp())
on conflict (run_id) do update
    set begun_at = run.begun_at
returning number
