"""What is done to the masks of videos as a whole: written, measured, carried on."""
