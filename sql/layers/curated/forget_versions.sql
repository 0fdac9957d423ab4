-- Forget services that are no longer defined. $1: entity, $2: names of those that are.
delete from ops.service_version
where entity = $1 and service <> all($2::text[])
