-- Whole documents that the history has changed since they were looked at: the next load looks at these keys again.
update pg_temp.portion as p
set found = false
from pg_temp.filtered as f
left join {{ raw | table }} as r
    on {{ key_names | same("r", "f") }} and f.load_date = r.load_date and f.digest = r.digest
where
    f.document is null
    and {{ key_names | same("f", "p") }}
    and r.load_date is null
