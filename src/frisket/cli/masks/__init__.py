"""The options of `frisket masks` and its sub-commands."""
