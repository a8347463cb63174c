"""What a moving file says of itself: time, place on the screen, colour."""
