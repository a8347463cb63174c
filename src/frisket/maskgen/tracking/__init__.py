"""Things followed through a clip: matched, numbered, smoothed in time."""
