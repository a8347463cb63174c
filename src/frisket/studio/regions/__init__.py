"""The region table of a configuration and the numbers of its masks, edited with comments kept."""
