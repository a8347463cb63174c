"""The qinglong GUI for musubi-tuner: what its fields are called there, and its optimizers."""
