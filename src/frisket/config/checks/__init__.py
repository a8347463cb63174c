"""What of a configuration does not go together, apart from the models that hold its options."""
