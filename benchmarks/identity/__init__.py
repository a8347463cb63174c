"""What identity methods do, measured on procedural faces: README.md says how, before any result."""
