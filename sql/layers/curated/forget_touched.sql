-- Forget that keys of a scope had to be looked at. $1 and on: the scope.
delete from {{ touched | table }}
where layer = 'curated' and {{ scope | bound(1) }}
