"""Faces as numbers: aligned, drawn as key points, chosen and embedded; no diffusion model."""
