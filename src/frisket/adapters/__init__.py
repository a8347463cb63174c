"""LoRA adapters and the files they are saved in."""
