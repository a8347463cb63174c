"""kohya's sd-scripts: its configurations, read as ours."""

from frisket.importers.trainers.kohya.read import FORMAT

__all__ = ["FORMAT"]
