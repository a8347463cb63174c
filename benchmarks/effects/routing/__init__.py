"""What token routing costs the subject and saves in FLOPs, on the pocket transformer."""
