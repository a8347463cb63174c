"""Runs that lie below the workspace: found by their marker files, read without torch."""
