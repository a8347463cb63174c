"""Faces of clips as data: where they are, whose they are, and the marks a step looks at."""
