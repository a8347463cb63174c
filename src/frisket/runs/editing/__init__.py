"""One clip edited by its mask: what is refused, its data on disk, its stages, its samples."""
