"""What the loss will see of one mask while it is painted: weights on the latent grid, warnings."""
