"""What a ControlNet beside masked training changes, on the pocket world."""
