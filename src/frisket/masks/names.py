"""What masks and tables of regions call what has no name of its own."""

BACKGROUND = "background"  # what no region covers: a mask may name it, and it gives no plane
WHOLE = ""  # key of one file that stands for all regions
