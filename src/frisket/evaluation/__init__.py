"""Did the mask work: metrics on predictions and pictures, and the report page."""
