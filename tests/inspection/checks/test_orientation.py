"""Masks laid on wrongly are told and how; right ones, soft, loose and cropped ones are not."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.inspection.drawn import draw

from frisket.inspection.alignment import find_move, find_quarter, measure_reach, measure_turns
from frisket.inspection.checks.orientation import find_turn, is_certain, look_at_turns
from frisket.media.stills.orientation import turn_upright

PHOTOS = Path(__file__).parents[3] / "examples" / "photos"
NAMES = ("astronaut", "grace-hopper")
SHIFTS = [(-12, 0), (0, 12), (0, -12), (20, -16), (-50, 30)]
SLOW_TURNS = [pytest.param(one, marks=pytest.mark.slow) for one in (5, 7, 8)]
BACK = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # what undoes a turn


@cache
def photo(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A photograph and all its regions, 448 pixels long."""
    picture = np.asarray(Image.open(PHOTOS / "clips" / f"{name}.jpg").convert("RGB"))
    mask = (np.asarray(Image.open(PHOTOS / "masks" / f"{name}.png")) > 0).astype(np.float32)
    scale = 448 / max(mask.shape)
    size = (round(mask.shape[1] * scale), round(mask.shape[0] * scale))
    how = {"dsize": size, "interpolation": cv2.INTER_AREA}
    return cv2.resize(picture, **how), cv2.resize(mask, **how)


def moved(mask: np.ndarray, right: int, down: int) -> np.ndarray:
    matrix = np.float32([[1, 0, right], [0, 1, down]])
    return cv2.warpAffine(mask, matrix, mask.shape[::-1], borderMode=cv2.BORDER_REPLICATE)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    one = draw(np.random.RandomState(seed), "one", (256, 256))
    return one.picture, one.mask.astype(np.float32) / 255


def disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_mirrored_and_turned_masks_are_told_and_how(name: str, orientation: int) -> None:
    picture, mask = photo(name)
    wrong = np.ascontiguousarray(turn_upright(mask, orientation))
    found = find_turn(picture, wrong)
    assert found is not None
    assert found.orientation == BACK[orientation]
    (told,) = look_at_turns("clip", picture, wrong)
    assert told.kind == "turned"


@pytest.mark.parametrize("orientation", [6, *SLOW_TURNS])
def test_quarter_turns_of_square_pictures(orientation: int) -> None:
    picture, mask = photo("astronaut")
    wrong = np.ascontiguousarray(turn_upright(mask, orientation))
    found = find_turn(picture, wrong, quarters=True)
    assert found is not None
    assert found.orientation == BACK[orientation]
    assert is_certain(picture, wrong, found, quarters=True)


@pytest.mark.parametrize("orientation", [6, *SLOW_TURNS])
def test_a_mask_of_swapped_sides_is_laid_back_the_way_it_fits(orientation: int) -> None:
    picture, mask = photo("grace-hopper")
    assert find_quarter(picture, turn_upright(mask, orientation)) == BACK[orientation]
    flat = np.full_like(picture, 90)
    assert find_quarter(flat, turn_upright(mask, orientation)) is None


@pytest.mark.parametrize("name", NAMES)
def test_the_exif_of_the_clip_is_named(name: str) -> None:
    picture, mask = photo(name)
    (told,) = look_at_turns("clip", picture, np.ascontiguousarray(mask[:, ::-1]), orientation=2)
    assert "EXIF orientation 2" in told.sentence
    assert not list(look_at_turns("clip", picture, mask, orientation=2))


@pytest.mark.parametrize("name", NAMES)
def test_inverted_masks_are_told(name: str) -> None:
    picture, mask = photo(name)
    (told,) = look_at_turns("clip", picture, 1 - mask)
    assert told.kind == "inverted"
    assert not measure_reach(mask).inverted


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "shift", [(12, 0), *(pytest.param(one, marks=pytest.mark.slow) for one in SHIFTS)]
)
def test_moved_masks_are_told_and_whereto(name: str, shift: tuple[int, int]) -> None:
    picture, mask = photo(name)
    near = find_move(picture, moved(mask, *shift))
    assert near is not None
    assert (near.right * 448, near.down * 448) == pytest.approx((-shift[0], -shift[1]), abs=2)
    (told,) = look_at_turns("clip", picture, moved(mask, *shift))
    assert told.kind == "misaligned"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_right_masks_are_left_alone(name: str) -> None:
    picture, mask = photo(name)
    height, width = mask.shape
    rough = cv2.resize(cv2.resize(mask, (64, 64), interpolation=cv2.INTER_AREA), (width, height))
    right = {
        "exact": (picture, mask),
        "soft": (picture, cv2.GaussianBlur(mask, (0, 0), 5)),
        "wide": (picture, cv2.dilate(mask, disc(6))),
        "narrow": (picture, cv2.erode(mask, disc(4))),
        "rough": (picture, rough),
        "left": (picture[:, : width * 4 // 5], mask[:, : width * 4 // 5]),
        "right": (picture[:, width // 5 :], mask[:, width // 5 :]),
        "close": (picture[height // 5 :], mask[height // 5 :]),
    }
    for kind, (seen, laid) in right.items():
        assert not list(look_at_turns("clip", seen, laid, quarters=True)), kind


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_drawn_masks_too(seed: int) -> None:
    picture, mask = drawn(seed)
    assert [one.kind for one in look_at_turns("clip", picture, moved(mask, 20, -16))]
    assert not list(look_at_turns("clip", picture, mask))
    assert not list(look_at_turns("clip", picture, cv2.dilate(mask, np.ones((17, 17)))))


def test_flat_pictures_and_bare_masks_tell_nothing() -> None:
    flat = np.full((128, 128, 3), 90, np.uint8)
    spot = cv2.circle(np.zeros((128, 128), np.float32), (64, 64), 30, 1, -1)
    for mask in (spot, np.zeros_like(spot), np.ones_like(spot)):
        assert not list(look_at_turns("clip", flat, mask, quarters=True))
    assert measure_turns(flat, np.zeros_like(spot), quarters=True) == []


def test_large_and_narrow_pictures_are_taken() -> None:
    rng = np.random.RandomState(0)
    for size in ((40, 900), (900, 40), (12, 12)):
        picture = rng.randint(0, 255, (*size, 3)).astype(np.uint8)
        list(look_at_turns("clip", picture, (rng.rand(*size) > 0.5).astype(np.float32)))
