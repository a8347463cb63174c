"""Tiny random builds of the vision models, in the folders that real weights come in."""
