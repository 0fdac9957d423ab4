-- An index. `method` comes from the catalog, or is made of quoted names.
create{% if is_unique %} unique{% endif %} index{% if name %} {{ name | column }}{% endif %}

on {{ table | table }} using {{ method }}
