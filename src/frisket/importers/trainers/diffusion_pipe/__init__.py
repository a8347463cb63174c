"""diffusion-pipe: its configurations, read as ours."""

from frisket.importers.trainers.diffusion_pipe.read import FORMAT

__all__ = ["FORMAT"]
