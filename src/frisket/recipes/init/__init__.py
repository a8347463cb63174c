"""`frisket init`: from a folder of clips to a commented configuration."""
