-- How many ids each source named on the last earlier date for which the population was landed. $1: assets of the
-- sources, $2: asset of the population, $3: the date. Grain: source.
select distinct on (r.asset)
    r.asset,
    r.load_date,
    r.data as ids
from ops.receipt as r
where
    r.asset = any($1::text[])
    and r.load_date = (
        select max(p.load_date)
        from ops.receipt as p
        where p.asset = $2 and p.load_date < $3
    )
order by r.asset asc, r.attempt desc
