-- What was worked out of the old documents: by layer and place of the row. `document` only where it was cleaned.
create temporary table {{ into | column }} (
    layer text not null,
    row_id tid not null,
    digest bytea,
    document jsonb
) on commit drop
