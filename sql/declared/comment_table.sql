-- What a table holds. `text` is a quoted literal: a comment takes no parameter.
comment on table {{ table | table }} is {{ text }}
