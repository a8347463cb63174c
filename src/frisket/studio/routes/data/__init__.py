"""What the page of the data set asks for: clips, captions, findings, files dropped into it."""
