"""Stills as the trainer sees them, cut into levels and tiles that a page can show quickly."""
