"""The shelf of other trainers: a folder each, which binds FORMAT."""
