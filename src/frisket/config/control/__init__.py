"""The table `[control]`: a ControlNet beside the training, or trained."""
