"""InstantID beside a UNet, while sampling and while training."""
