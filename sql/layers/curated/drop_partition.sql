-- Take out the partition of a service that is no longer defined. A reader that never ends must not stop all others.
set local lock_timeout = '30s';
drop table {{ partition | table }};
