"""Masks that were made: the queue of those to look at, and the call that makes them."""
