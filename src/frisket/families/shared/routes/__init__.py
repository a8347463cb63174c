"""How blocks take a part of the image's tokens, where families share it: one file a kind."""
