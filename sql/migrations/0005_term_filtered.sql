-- Term: what its curated rows were filtered from, as for every entity.
create table ops.term_filtered (
    acad_career varchar(4) not null,
    strm varchar(4) not null,
    load_date date not null,
    digest bytea not null,
    primary key (acad_career, strm)
);
comment on table ops.term_filtered is 'State of each term that its curated rows were last filtered from; where the current state differs, they are filtered anew.';

-- Rows that were made before are compared with nothing that is remembered: every service is filtered once more.
delete from ops.service_version
where entity = 'term';
