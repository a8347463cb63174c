"""One run by its configuration: its data, its models, what it refuses, keeps and says of itself."""
