-- A place for what is set aside.
create schema {{ into | column }}
