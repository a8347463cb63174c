"""Forms in which jobs of other trainers are kept: one file each, see `data/source_base.py`."""
