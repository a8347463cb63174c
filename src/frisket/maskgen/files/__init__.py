"""Masks on disk: where they lie, what is written beside them."""
