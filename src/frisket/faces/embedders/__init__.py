"""The shelf of face embedders: a file here is one, and its name is its file name."""
