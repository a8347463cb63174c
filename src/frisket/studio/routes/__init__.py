"""What the page may ask for: every module below binds a `router`, mounted under /api by itself."""
