"""Which of a picture's tokens a training step carries."""
