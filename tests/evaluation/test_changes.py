"""How far pictures moved, in units of the base's own variety."""

import pytest
import torch

from frisket.evaluation.changes import measure_changes


def pictures(seed: int, count: int = 4, scale: int = 255) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 16, 16, 3)
    return [
        torch.randint(0, scale + 1, shape, generator=generator, dtype=torch.uint8)
        for _ in range(count)
    ]


def test_the_same_pictures_did_not_change() -> None:
    assert measure_changes(pictures(0), pictures(0)) == [0, 0, 0, 0]


def test_pictures_of_another_seed_changed_by_one() -> None:
    assert measure_changes(pictures(1), pictures(0)) == pytest.approx([1, 1, 1, 1], abs=0.1)


def test_the_unit_is_the_variety_of_the_base() -> None:
    flat = [each // 8 for each in pictures(0)]
    moved = [each + 4 for each in flat]
    assert measure_changes(moved, flat) == pytest.approx([4 / 13] * 4, rel=0.1)


def test_one_picture_is_held_against_its_own_contrast() -> None:
    assert measure_changes(pictures(1, 1), pictures(0, 1)) == pytest.approx([2**0.5], rel=0.1)
