"""Image adapters in a run: what clips are shown, where it joins the denoiser, what is saved."""
