"""What each command does: one straight function, read from top to bottom."""
