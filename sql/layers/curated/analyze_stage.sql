-- Without statistics every portion would be compared with the whole table.
analyze pg_temp.portion ({{ key_names | columns }}), pg_temp.filtered (service, {{ key_names | columns }})
