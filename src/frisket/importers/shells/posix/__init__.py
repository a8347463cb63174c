"""POSIX shells, with what of bash training scripts use."""
