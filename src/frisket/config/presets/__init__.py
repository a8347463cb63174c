"""Presets: settings that were measured, laid over the defaults and under the file."""
