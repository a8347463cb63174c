"""musubi-tuner and blissful-tuner: its configurations, read as ours."""

from frisket.importers.trainers.musubi.read import FORMAT

__all__ = ["FORMAT"]
