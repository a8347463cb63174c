"""Pixels, no models: finding, decoding, bucketing and cutting clips."""
