"""The shelf of face detectors: a file here is one, and its name is its file name."""
