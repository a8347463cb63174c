"""FreeFuse: several LoRAs in one picture, each on the cells that its own words drew."""
