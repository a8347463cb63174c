"""Composites of a run: what is planned of them by the configuration, and a sheet to look at."""
