"""One file for each family whose denoiser takes a ControlNet."""
