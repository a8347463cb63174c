"""`frisket edit`: one video edited by its mask."""
