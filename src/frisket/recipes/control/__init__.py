"""What `frisket control` does."""
