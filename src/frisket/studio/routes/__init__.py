"""What the page may ask for: every module here binds a `router`, mounted under /api by itself."""
