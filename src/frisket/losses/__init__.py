"""Losses under region weights: the terms, and what their sums are divided by."""
