"""Automatic region masks: from pictures, phrases and captions to label maps."""
