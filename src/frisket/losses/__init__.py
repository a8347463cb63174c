"""Losses under weights."""
