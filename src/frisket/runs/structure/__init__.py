"""Structure in a run: what loss terms compare of decoded pictures, and what is refused of it."""
