"""Draft masks without a download: colour, faces, and whether they look like a person."""
