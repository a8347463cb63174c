"""What lies in a folder of clips, what belongs together, and what is passed by."""
