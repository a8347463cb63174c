"""SimpleTuner: its configurations, read as ours."""

from frisket.importers.trainers.simpletuner.read import LAYOUT

__all__ = ["LAYOUT"]
