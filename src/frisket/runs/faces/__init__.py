"""Faces in a run: what is read of the clips before it, compared in it, and refused ahead of it."""
