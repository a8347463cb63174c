"""What `frisket edit` is asked for."""
