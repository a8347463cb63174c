"""One straight script a command, and the whole configuration."""
