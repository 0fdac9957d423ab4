-- Remember the definition that a service's rows were made with. Key: entity, service and scope.
insert into ops.service_version (entity, service, scope, version, definition, run_id, applied_at)
values ($1, $2, $3, $4, $5, $6, clock_timestamp())
on conflict (entity, service, scope) do update
    set version = excluded.version,
        definition = excluded.definition,
        run_id = excluded.run_id,
        applied_at = excluded.applied_at
