"""What `[[identity]]` tables hold, and the options of `frisket generate` that come to them."""
