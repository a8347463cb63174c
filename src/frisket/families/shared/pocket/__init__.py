"""The parts of the pocket models that other small families share: words, VAE, suggestions."""
