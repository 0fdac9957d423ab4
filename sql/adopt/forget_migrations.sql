-- Forget migrations from a number on, so that they are pending again. $1: the first of them.
delete from ops.migration
where number >= $1
