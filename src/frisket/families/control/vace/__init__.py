"""VACE's context blocks beside a plain Wan transformer."""
