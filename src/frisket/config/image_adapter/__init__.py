"""Training image adapters by the configuration."""
