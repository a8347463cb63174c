"""What the training page asks for: configurations, memory, the start."""
