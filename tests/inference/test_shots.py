"""Shots: what is left open, what is refused, and the pictures they start from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.families.base import FAMILIES, Family, Variant
from frisket.inference.sample_specs import build_spec, check, references


def seeing(sees: str) -> tuple[Family, Variant]:
    """A family that is shown pictures."""
    wan = FAMILIES.load("wan")
    card = replace(next(iter(wan.variants.values())), sees=sees)  # type: ignore[arg-type]
    kind = type("Seeing", (type(wan),), {"variants": {"v": card}})
    family: Family = kind()
    return family, card


def write(path: Path, height: int, width: int, *, turned: bool = False) -> Path:
    """A picture whose left half is red and whose right half is blue, as it is seen."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = pixels[:, width // 2 :, 2] = 255
    image = Image.fromarray(pixels)
    if turned:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned a quarter clockwise when shown
        image.rotate(90, expand=True).save(path, exif=exif)
    else:
        image.save(path)
    return path


def test_what_is_left_open_is_the_variants_own() -> None:
    card = next(iter(FAMILIES.load("wan").variants.values()))
    made = build_spec(card, "a cat", 3, height=64)
    assert (made.height, made.width, made.frames) == (64, card.width, card.frames)
    assert (made.steps, made.guidance) == (card.steps, card.guidance)
    assert build_spec(card, "a cat", 3, guidance=0.0).guidance == 0


def test_pictures_are_asked_for_and_refused_with_the_fix() -> None:
    some, more = (Path("a.png"),), (Path("a.png"), Path("b.png"))
    family, card = seeing("first_frame")
    check(family, "v", [build_spec(card, "x", 0, images=some)])
    for wrong, count in (((), 0), (more, 2)):
        with pytest.raises(ValueError, match=rf"give one picture \(--image FILE.*not {count}"):
            check(family, "v", [build_spec(card, "x", 0, images=wrong)])
    family, card = seeing("pictures")
    check(family, "v", [build_spec(card, "x", 0, images=more)])
    with pytest.raises(ValueError, match="works from pictures: give at least one"):
        check(family, "v", [build_spec(card, "x", 0)])
    family, card = seeing("nothing")
    with pytest.raises(ValueError, match=r"looks at no picture: leave a\.png out"):
        check(family, "v", [build_spec(card, "x", 0, images=some)])


@pytest.mark.parametrize("turned", [False, True])
def test_a_first_frame_is_cut_to_the_shot_and_not_stretched(tmp_path: Path, turned: bool) -> None:
    _, card = seeing("first_frame")
    file = write(tmp_path / "a.png", 64, 256, turned=turned)
    (seen,) = references(card, build_spec(card, "x", 0, images=(file,), height=32, width=64))
    assert seen.shape == (1, 32, 64, 3)
    assert seen.dtype == torch.uint8
    assert (seen[0, :, :28] == torch.tensor([255, 0, 0])).all()
    assert (seen[0, :, 36:] == torch.tensor([0, 0, 255])).all()


def test_a_first_frame_of_the_right_size_is_kept_bit_for_bit(tmp_path: Path) -> None:
    _, card = seeing("first_frame")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    of = build_spec(card, "x", 0, images=(tmp_path / "a.png",), height=32, width=48)
    assert np.array_equal(references(card, of)[0][0].numpy(), pixels)


def test_pictures_to_edit_keep_their_size_and_stand_upright(tmp_path: Path) -> None:
    _, card = seeing("pictures")
    files = (
        write(tmp_path / "a.png", 20, 40),
        write(tmp_path / "b.jpg", 32, 16, turned=True),
    )
    one, two = references(card, build_spec(card, "x", 0, images=files, height=32, width=48))
    assert one.shape == (1, 20, 40, 3)
    assert two.shape == (1, 32, 16, 3)
    assert two[0, :, 0, 0].float().mean() > 200
