"""`frisket studio`: one local page over the commands. Nothing in here imports torch."""
