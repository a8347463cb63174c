"""What of a step's prediction is decoded and looked at, for the loss terms that look at pixels."""
