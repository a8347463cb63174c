"""MaskDiT against the same transformer that sees every token, at equal FLOPs."""
