"""Vision models loaded, fed and shared: preprocessing, classes, parsers."""
