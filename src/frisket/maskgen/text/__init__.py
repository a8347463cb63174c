"""Captions to phrases, and phrases to regions."""
