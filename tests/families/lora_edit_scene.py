"""What LoRA-Edit's own code and ours are given alike; see scripts/record_lora_edit.py."""

import torch

SIZE = (32, 48)
FRAMES = 9
# Edited rectangles (top, bottom, left, right), a list for each frame of a clip.
ALIGNED = [[]] + [[(8, 24, 8 * (index // 2), 8 * (index // 2) + 16)] for index in range(1, FRAMES)]
LOOSE = [[(3, 21, 5 + index, 17 + 2 * index)] for index in range(FRAMES)]
CLIPS = {"aligned": ALIGNED, "loose": LOOSE}
# Pieces of a mask that boxes are drawn around, 64 x 96 pixels.
BOX_SIZE = (64, 96)
PIECES = {
    "two": [(5, 18, 7, 31), (30, 63, 50, 90)],
    "border": [(0, 12, 0, 40), (40, 64, 70, 96)],
    "speck": [(10, 15, 10, 17), (20, 50, 20, 80)],
    "meeting": [(10, 30, 10, 30), (30, 45, 30, 41)],  # they touch at a corner
    "inner": [(10, 50, 10, 15), (10, 15, 10, 60), (10, 50, 55, 60), (45, 50, 10, 60)],
}


def mark(rectangles: list[tuple[int, int, int, int]], size: tuple[int, int]) -> torch.Tensor:
    """H W, 1 in the rectangles."""
    plane = torch.zeros(size)
    for top, bottom, left, right in rectangles:
        plane[top:bottom, left:right] = 1
    return plane


def mark_clip(name: str) -> torch.Tensor:
    """F H W, 1 where a clip is edited."""
    return torch.stack([mark(rectangles, SIZE) for rectangles in CLIPS[name]])
