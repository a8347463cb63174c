"""What a denoiser is asked to predict."""
