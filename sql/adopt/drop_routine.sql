-- Give up a function of the migrations.
drop function {{ into }}
