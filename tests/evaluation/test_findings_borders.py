"""A shifted mask is told where it belongs; drawn masks, loose ones and plain pictures are not."""

import cv2
import numpy as np
import pytest
from tests.evaluation.drawn import draw

from frisket.evaluation.findings_borders import alignment, look_at_borders


def moved(mask: np.ndarray, right: int, down: int) -> np.ndarray:
    return cv2.warpAffine(mask, np.float32([[1, 0, right], [0, 1, down]]), mask.shape[::-1])


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    one = draw(np.random.RandomState(seed), "one", (256, 256))
    return one.picture, one.mask.astype(np.float32) / 255


@pytest.mark.parametrize("seed", range(4))
def test_the_shift_is_found_in_direction_and_size(seed: int) -> None:
    picture, mask = drawn(seed)
    seen = alignment(picture, moved(mask, 20, -16))
    assert seen is not None
    assert seen.clear
    assert seen.shift == pytest.approx((-20 / 256, 16 / 256), abs=0.02)


def test_the_finding_says_where_to_move_it() -> None:
    picture, mask = drawn(0)
    (found,) = look_at_borders("clip", picture, moved(mask, 20, 0))
    assert found.kind == "misaligned"
    assert "to the left" in found.sentence
    assert not list(look_at_borders("clip", picture, mask))


@pytest.mark.parametrize("seed", range(4))
def test_a_loose_mask_is_not_misaligned(seed: int) -> None:
    picture, mask = drawn(seed)
    loose = cv2.dilate(mask, np.ones((17, 17)))
    assert not list(look_at_borders("clip", picture, loose))


def test_flat_pictures_and_bare_masks_tell_nothing() -> None:
    flat = np.full((128, 128, 3), 90, np.uint8)
    disc = cv2.circle(np.zeros((128, 128), np.float32), (64, 64), 30, 1, -1)
    assert not list(look_at_borders("clip", flat, disc))
    assert alignment(flat, np.zeros((128, 128), np.float32)) is None
    assert alignment(flat, np.ones((128, 128), np.float32)) is None


def test_large_and_narrow_pictures_are_taken() -> None:
    rng = np.random.RandomState(0)
    for size in ((40, 900), (900, 40), (12, 12)):
        picture = rng.randint(0, 255, (*size, 3)).astype(np.uint8)
        alignment(picture, (rng.rand(*size) > 0.5).astype(np.float32))
