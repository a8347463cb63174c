"""Draws docs/images/control-kinds.png: one photo, and its control pictures without weights."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from frisket.control.base import DrawRequest, load_drawer
from frisket.media.frames import decode, write_image

ROOT = Path(__file__).resolve().parents[1]
TO = ROOT / "docs" / "images" / "control-kinds.png"
KINDS = ("canny", "lineart", "luma", "colours")
WIDTH = 190


def main() -> None:
    """The first photo of the examples, then each kind, side by side."""
    photo = decode(min((ROOT / "examples" / "photos" / "clips").glob("*.jpg")))[0]
    pictures = [photo, *(next(load_drawer(kind, DrawRequest()).draw([photo])) for kind in KINDS)]
    height = round(photo.shape[0] * WIDTH / photo.shape[1])
    size = (WIDTH, height)
    small = [Image.fromarray(picture.numpy()).resize(size) for picture in pictures]
    write_image(TO, torch.from_numpy(np.hstack([np.asarray(picture) for picture in small])))


if __name__ == "__main__":
    main()
