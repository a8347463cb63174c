"""The kohya_ss GUI: its fields, and the networks that its kinds of LoRA are."""
