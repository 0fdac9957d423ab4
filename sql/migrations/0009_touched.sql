-- What a load changed and the layers above have not seen, so that they need not compare everything to find it.
create table ops.term_touched (
    layer text not null check (layer in ('xform', 'curated')),
    acad_career varchar(4) not null,
    strm varchar(4) not null,
    primary key (layer, acad_career, strm)
);
comment on table ops.term_touched is 'Keys whose state may have changed since the layer was last loaded.';

create table ops.course_touched (
    layer text not null check (layer in ('xform', 'curated')),
    academic_career varchar(4) not null,
    term_code integer not null,
    course_id integer not null,
    session_code varchar(3) not null,
    primary key (layer, term_code, academic_career, course_id, session_code)
);
comment on table ops.course_touched is 'Keys whose state may have changed since the layer was last loaded.';

create table ops.person_touched (
    layer text not null check (layer in ('xform', 'curated')),
    bu_uid varchar not null,
    primary key (layer, bu_uid)
);
comment on table ops.person_touched is 'Keys whose state may have changed since the layer was last loaded.';

create table ops.table_state (
    asset text not null,
    scope text not null,
    fingerprint numeric not null,
    primary key (asset, scope)
);
comment on table ops.table_state is 'What the last load left of each scope in each table, as a number. If a table holds something else, somebody changed rows by hand, and the next load compares everything.';
