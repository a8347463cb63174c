"""Readers of denoiser calls that several families share: one file a kind of denoiser."""
