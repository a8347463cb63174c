"""Clips that several recipes are tested on; a file with a fixture of the same name has its own."""

import numpy as np
import pytest
from PIL import Image
from tests.recipes.mask_runs import PHOTOS


@pytest.fixture
def clips(tmp_path):
    """A photograph, a picture of nobody and a broken file, in `set/clips`."""
    folder = tmp_path / "set" / "clips"
    folder.mkdir(parents=True)
    Image.open(PHOTOS / "astronaut.jpg").resize((256, 256)).save(folder / "ada.jpg", quality=95)
    sky = np.linspace(60, 220, 96)[:, None, None].repeat(128, 1).repeat(3, 2)
    Image.fromarray(sky.astype(np.uint8)).save(folder / "sky.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    for name in ("ada", "sky", "broken"):
        (folder / f"{name}.txt").write_text("sks woman in a red jacket on a beach")
    return folder
