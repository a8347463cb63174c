"""Ways to sample that change what a pipeline does while it runs, each put on and taken off."""
