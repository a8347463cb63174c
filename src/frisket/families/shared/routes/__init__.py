"""How transformer blocks take a part of the image's tokens, one file a kind of model."""
