-- The active terms on one date: the current undergraduate term, the one before, the one after and a fourth.
-- The fourth, unless the current term is a summer term: the one before the previous term if that is a summer term,
-- else the one after the next. Order within the career is that of the codes. $1: the date.
-- Returns nothing unless exactly one undergraduate term is current on that date.
with state as (
    select distinct on (acad_career, strm)
        acad_career,
        strm,
        load_date,
        term_data
    from term_raw.term_data
    where load_date <= $1 and acad_career = 'UGRD'
    order by acad_career asc, strm asc, load_date desc
),

career as (
    select
        acad_career,
        strm,
        load_date,
        coalesce(term_data ->> 'DESCR', '') ilike '%summer%' as is_summer,
        coalesce(rtrim(term_data ->> 'CURRENT_IND', ' '), '') = 'Y' as is_current,
        row_number() over (order by strm collate "C") as place
    from state
    where term_data is not null
),

current_term as (
    select
        min(place) as place,
        bool_or(is_summer) as is_summer
    from career
    where is_current
    having count(*) = 1
),

previous_term as (
    select c.is_summer
    from career as c
    inner join current_term as t on c.place = t.place - 1
)

select
    c.acad_career,
    c.strm,
    c.load_date
from career as c
cross join current_term as t
where
    c.place between t.place - 1 and t.place + 1
    or (
        not t.is_summer
        and c.place = case when (select p.is_summer from previous_term as p) then t.place - 2 else t.place + 2 end
    )
