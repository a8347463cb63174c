"""A ControlNet that trains, as a part of its denoiser."""
