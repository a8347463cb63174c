"""`frisket studio` and its other half, `frisket serve`."""
