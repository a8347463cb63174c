"""The shelf of mask backends: one model (or method) a file, each binding BACKEND."""
