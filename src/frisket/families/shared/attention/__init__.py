"""Where the attention of diffusers' models can be read, and how."""
