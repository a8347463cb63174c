"""A run watched while it trains: its metrics, its spikes and their clips, its previews."""
