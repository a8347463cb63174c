"""The shelf of kinds of control pictures; a kind is a file."""
