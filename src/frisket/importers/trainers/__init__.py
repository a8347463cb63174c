"""The shelf of other trainers' data set layouts: one file each, each binding LAYOUT."""
