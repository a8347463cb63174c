"""Clips to make masks for, and the run as tests call it."""

from pathlib import Path

import numpy as np
import torch

from frisket.config.maskgen import MaskGeneration, MaskPeople, MaskPrompts, MaskRequest
from frisket.media.frames import write_video
from frisket.pocket.world import Background, Scene, draw, frames_of
from frisket.recipes.masks.make import make_masks

PHOTOS = Path(__file__).parents[2] / "examples" / "photos" / "clips"
WALL = Background("wall", "white", "white")


def video(folder: Path, frames: int = 9) -> Path:
    scene = Scene(WALL, "circle", "red", 14.0, 16.0, 8.0, "rightward")
    pictures = np.stack([draw(one, 96)[0] for one in frames_of(scene, frames, 0.5)])
    write_video(folder / "roll.mkv", torch.from_numpy(pictures), 8.0, lossless=True)
    return folder / "roll.mkv"


def request(folder: Path, **options) -> MaskRequest:
    """A request with options of the call, of [maskgen], [maskgen.prompts] and [maskgen.people]."""

    def take(model):
        return {name: options.pop(name) for name in list(options) if name in model.model_fields}

    own, prompts, people = take(MaskRequest), take(MaskPrompts), take(MaskPeople)
    tree = {"workers": 1, "prompts": prompts, "people": people, **options}
    return MaskRequest(folder=folder, maskgen=MaskGeneration.model_validate(tree), **own)


def run(folder: Path, **options):
    return make_masks(request(folder, **options))
