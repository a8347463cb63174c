"""At which noise levels each other trainer trains, as [timesteps] of a configuration."""
