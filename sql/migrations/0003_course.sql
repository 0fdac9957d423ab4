-- Course: history of changes, current state, and what each service may see. Keys begin with the term, because courses
-- are loaded term by term.
create schema if not exists course_raw;
create schema if not exists course_xform;
create schema if not exists course_curated;

create table course_raw.course_data (
    academic_career varchar(4) not null,
    term_code integer not null,
    course_id integer not null,
    session_code varchar(3) not null,
    course_data jsonb,
    dl_insert_date timestamp not null,
    load_date date not null,
    operation "char" not null check (operation in ('I', 'U', 'D')),
    digest bytea,
    source text not null,
    run_id text not null,
    loaded_at timestamptz not null,
    primary key (term_code, academic_career, course_id, session_code, load_date) include (digest),
    check ((operation = 'D') = (course_data is null)),
    check ((operation = 'D') = (digest is null))
);
comment on table course_raw.course_data is 'Change points of each course: one row per date on which its document differs from the landed date before.';
create index course_data_by_load_date on course_raw.course_data (load_date, term_code);

create table course_xform.current_course_data (
    academic_career varchar(4) not null,
    term_code integer not null,
    course_id integer not null,
    session_code varchar(3) not null,
    course_data jsonb,
    modified_date timestamp not null,
    load_date date not null,
    digest bytea not null,
    run_id text not null,
    loaded_at timestamptz not null,
    primary key (term_code, academic_career, course_id, session_code)
);
comment on table course_xform.current_course_data is 'Courses as they are now: the last change point of each, unless it is a removal.';

create table course_curated.course_data_by_service (
    service varchar(64) not null,
    academic_career varchar(4) not null,
    term_code integer not null,
    course_id integer not null,
    session_code varchar(3) not null,
    course_data jsonb,
    modified_date timestamp not null,
    load_date date not null,
    digest bytea not null,
    run_id text not null,
    loaded_at timestamptz not null,
    primary key (term_code, academic_career, course_id, session_code, service)
) partition by list (service);
comment on table course_curated.course_data_by_service is 'Courses and fields that each service may see. A service has a partition of its own, made when it is first loaded.';

create table ops.course_filtered (
    academic_career varchar(4) not null,
    term_code integer not null,
    course_id integer not null,
    session_code varchar(3) not null,
    load_date date not null,
    digest bytea not null,
    primary key (term_code, academic_career, course_id, session_code)
);
comment on table ops.course_filtered is 'State of each course that its curated rows were last filtered from; where the current state differs, they are filtered anew.';

-- lz4 packs and unpacks several times as fast as pglz; a server that was built without it keeps its default.
do $$
begin
    alter table course_raw.course_data alter column course_data set compression lz4;
    alter table course_xform.current_course_data alter column course_data set compression lz4;
    alter table course_curated.course_data_by_service alter column course_data set compression lz4;
exception when feature_not_supported then
    null;
end
$$;
