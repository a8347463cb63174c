"""Model families: one file each under `models`."""
