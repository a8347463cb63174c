"""One file for each kind of thing that can be wrong with a clip or a set."""
