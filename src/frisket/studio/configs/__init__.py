"""Configuration files of a workspace: read, checked while they are typed, changed key by key."""
