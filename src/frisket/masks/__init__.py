"""A mask on its way to weights."""
