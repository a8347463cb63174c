"""What a picture file says of its pixels: which way up, in which colours, for which reader."""
