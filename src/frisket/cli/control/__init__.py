"""The commands of `frisket control`."""
