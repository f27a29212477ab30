"""Settings into rules: the one place that knows both the tree of settings and what each room needs.

A room below the shells receives a small frozen record, which stands in that room; a module here,
named after the room, makes it from ``Config``. Who adds a setting adds it to the schema, to the
record of the room that reads it, and to the one line here that copies it.
"""
