"""ai-toolkit: its configurations, read as ours."""

from frisket.importers.trainers.ai_toolkit.read import LAYOUT

__all__ = ["LAYOUT"]
