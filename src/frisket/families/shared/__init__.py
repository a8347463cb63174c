"""What two families share: layer names, tokens, text encoders, single files."""
