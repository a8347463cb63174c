"""Prepared clips: cached, collated, loaded."""
