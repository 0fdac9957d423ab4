-- Whether there is an adoption to go back from.
select to_regclass('ops.adoption') is not null
