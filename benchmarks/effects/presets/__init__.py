"""The presets' scenarios on the pocket world: a look, and a motion (docs/effects.md)."""
