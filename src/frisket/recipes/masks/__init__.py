"""`frisket masks`: makes masks, compares, reviews and exchanges them."""
