"""The shelf of loss terms: file name = name in the config."""
