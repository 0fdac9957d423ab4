-- Whether any key's later change points still need mending.
select count(*) > 0 from pg_temp.touched
