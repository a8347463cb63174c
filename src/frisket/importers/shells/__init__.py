"""Command lines as shells read them, with options as kohya's parsers type them; nothing is run."""
