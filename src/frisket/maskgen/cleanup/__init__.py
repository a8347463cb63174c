"""Masks made whole: cleaned, composed to regions, chosen, and how sure they are."""
