"""Makes methods of sampling out of what a command was asked for."""
