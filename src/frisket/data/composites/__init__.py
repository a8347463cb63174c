"""Scenes that no camera took: a clip before another background, several subjects in one scene."""
