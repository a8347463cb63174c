"""Image adapters: what turns an embedding into tokens, their attention weights, their files."""
