"""Where phrases look in pictures: read from a denoiser, held against masks, shown on a page."""
