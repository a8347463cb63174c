"""diffusion-pipe: its configurations, read as ours."""

from frisket.importers.trainers.diffusion_pipe.read import LAYOUT

__all__ = ["LAYOUT"]
