"""What `frisket methods` says: which method runs where, and what it needs."""
