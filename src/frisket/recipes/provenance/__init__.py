"""`frisket explain`: every value in force, where it comes from, and the same as a config file."""
