-- The last migration that is still applied.
update ops.alembic_version
set version_num = (select max(number) from ops.migration)
