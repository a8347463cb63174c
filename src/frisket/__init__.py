"""Frisket: region-weighted fine-tuning for diffusion models; teach it this, and only this."""

from importlib.metadata import version

__version__ = version("frisket")
