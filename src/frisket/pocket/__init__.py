"""The procedural world and the tiny base model that ships with the package."""
