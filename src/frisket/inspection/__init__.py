"""A data set looked at: every clip with its masks and weights, what is wrong, and mending it."""
