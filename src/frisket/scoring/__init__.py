"""Runs held against each other: the same clips, the same noise, and what is said of them."""
