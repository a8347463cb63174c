"""What is sampled while a run trains, and whose faces are looked for on it."""
