"""The shelf of model families: file name = name in the config."""
