"""OneTrainer: its configurations, read as ours."""

from frisket.importers.trainers.onetrainer.read import FORMAT

__all__ = ["FORMAT"]
