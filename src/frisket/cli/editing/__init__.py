"""Commands that edit videos."""
