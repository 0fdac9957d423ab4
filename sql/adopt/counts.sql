-- What becomes of an entity's old history. `removals_told` ends the history of a key that the current table lacks.
select
    count(*) as states,
    count(*) filter (where operation is not null) as change_points,
    count(*) filter (where kind = 1) as states_of_current_only,
    count(*) filter (where kind = 2) as removals_told,
    count(*) filter (where place = 1) as keys,
    min(load_date) as first_date,
    max(load_date) as last_date
from pg_temp.{{ state | column }}
