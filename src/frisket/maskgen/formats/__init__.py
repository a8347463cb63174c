"""The shelf of mask layouts of other tools: one file each, each binding EXCHANGE."""
