-- Move a table or view with all that belongs to it to another schema.
alter {{ kind }} {{ table | table }} set schema {{ into | column }}
