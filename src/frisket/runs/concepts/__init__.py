"""Regions with a phrase: what they ask of captions and layers, and how much each teaches."""
