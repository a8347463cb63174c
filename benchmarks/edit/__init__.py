"""What LoRA-Edit changes against a plain image-to-video LoRA, on the pocket clip model."""
