"""Strokes on label maps, the twin of the studio's own (web/src/ink): same points, same bytes."""
