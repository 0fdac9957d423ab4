-- What a column holds. `text` is a quoted literal: a comment takes no parameter.
comment on column {{ table | table }}.{{ name | column }} is {{ text }}
