"""ai-toolkit: its configurations, read as ours."""

from frisket.importers.trainers.ai_toolkit.read import FORMAT

__all__ = ["FORMAT"]
