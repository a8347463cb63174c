"""The configuration: its options, and how a file becomes them."""
