"""Data sets as the page shows them: clips listed, measured, captioned, kept or rejected."""
