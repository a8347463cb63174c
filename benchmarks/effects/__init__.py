"""What every method does, measured on the pocket world: docs/effects.md."""
