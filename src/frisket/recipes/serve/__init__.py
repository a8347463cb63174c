"""`frisket serve`: answers requests in lines, for a page that must not import torch itself."""
