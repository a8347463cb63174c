"""Commands about a config file: it is written, and explained."""
