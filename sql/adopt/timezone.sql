-- The time zone in which this database most likely wrote timestamps: its own setting, else that of the server's log,
-- which is set up alike. That of this session is always UTC.
select coalesce(
    (
        select split_part(o.option, '=', 2)
        from pg_db_role_setting as s
        inner join pg_database as d on s.setdatabase = d.oid
        cross join unnest(s.setconfig) as o (option)
        where d.datname = current_database() and s.setrole = 0 and o.option ilike 'timezone=%'
    ),
    current_setting('log_timezone')
)
