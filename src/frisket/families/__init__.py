"""Model families: a file or a folder each, under `models`."""
