-- The definition that a service's rows were made with. $1: entity, $2: service.
select version
from ops.service_version
where entity = $1 and service = $2 and scope = ''
