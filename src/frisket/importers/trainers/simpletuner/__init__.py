"""SimpleTuner: its configurations, read as ours."""

from frisket.importers.trainers.simpletuner.read import FORMAT

__all__ = ["FORMAT"]
