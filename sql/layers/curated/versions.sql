-- The definitions that the rows of a scope were made with. $1: entity, $2: scope.
select
    service,
    version
from ops.service_version
where entity = $1 and scope = $2
