"""OneTrainer: its configurations, read as ours."""

from frisket.importers.trainers.onetrainer.read import LAYOUT

__all__ = ["LAYOUT"]
