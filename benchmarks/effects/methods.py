"""How two adapters are put on one picture, by `frisket generate` and its options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from frisket.config.calls import Fuse
from frisket.media.frames import write_image
from frisket.pocket.pairs import WIDTH
from frisket.pocket.world import SIZE
from frisket.recipes.generate import generate

SAMPLING_SEED = 3000
WORDS = ("sks", "zwx")  # of the creatures: the first stands left
Pictures = NDArray[np.uint8]  # n H W 3


@dataclass(frozen=True, slots=True)
class Method:
    """The kind of adapter it fuses, what is set to train such, and what `generate` is told.

    `halves`: each adapter is given the mask of its half. `fuse`: options of `config.calls.Fuse`.
    WORD in `settings` is the creature's own word.
    """

    kind: str = "lora"
    settings: tuple[str, ...] = ()
    halves: bool = False
    fuse: Mapping[str, Any] = field(default_factory=dict)


METHODS: Mapping[str, Method] = {
    "sum": Method(),
    "regional": Method(halves=True),
    "freefuse": Method(fuse={"method": "freefuse", "triggers": WORDS}),
    "freefuse-loras": Method(fuse={"method": "freefuse", "triggers": WORDS, "loras": True}),
    "tara": Method(
        "tara", settings=('lora.focus="WORD"',), fuse={"method": "tara", "triggers": WORDS}
    ),
}


def sample_pictures(
    config: Any,
    folder: Path,
    prompts: Sequence[str],
    files: Sequence[Path],
    method: Method,
    *,
    width: int = WIDTH,
    seed: int = SAMPLING_SEED,
) -> Pictures:
    """One picture a prompt, with seeds from `seed` on, as `frisket generate` makes them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{prompt} --d {seed + index}" for index, prompt in enumerate(prompts)]
    listing = folder / "prompts.txt"
    listing.write_text("\n".join(lines) + "\n", encoding="utf-8")
    options: dict[str, Any] = {}
    if method.halves:
        options["masks"] = write_halves(folder)
    if method.fuse:
        options["fuse"] = Fuse(**method.fuse)
    generated = generate(
        config,
        (),
        folder,
        lora=[(file, 1.0) for file in files],
        prompt_file=listing,
        height=SIZE,
        width=width,
        **options,
    )
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in generated.pictures])


def write_halves(folder: Path) -> tuple[str, str]:
    """Masks of the left and the right half, as a user would draw them."""
    left = np.zeros((SIZE, WIDTH, 3), np.uint8)
    left[:, : WIDTH // 2] = 255
    paths = folder / "left.png", folder / "right.png"
    for path, mask in zip(paths, (left, 255 - left), strict=True):
        write_image(path, torch.from_numpy(mask))
    return str(paths[0]), str(paths[1])
