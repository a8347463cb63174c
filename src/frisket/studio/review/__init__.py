"""Masks looked at one by one: the queue, the worst first, and the call that makes more."""
