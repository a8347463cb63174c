"""FastFace (arXiv 2505.21144): FaceID on distilled models, by guidance and attention alone."""
