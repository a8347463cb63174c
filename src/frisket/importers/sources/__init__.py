"""Forms in which jobs of other trainers are kept: one file each, see `importers/source_base.py`."""
