"""Masks as documents: read for the page, changed by its tiles, written as the files they were."""
