-- Remember the definition that a service's rows were made with. Key: entity and service.
insert into ops.service_version (entity, service, version, definition, run_id, applied_at)
values ($1, $2, $3, $4, $5, clock_timestamp())
on conflict (entity, service, scope) do update
    set version = excluded.version,
        definition = excluded.definition,
        run_id = excluded.run_id,
        applied_at = excluded.applied_at
    where service_version.version <> excluded.version
