"""Places of subjects: inside the picture, little of any hidden, the same every time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from frisket.data.composites.paint import resize_plane
from frisket.data.composites.places import Placement, find_box, find_places, lay_plane


def disc(row: float, column: float, radius: float, size: int = 24) -> Tensor:
    line = torch.arange(size) + 0.5
    distance = ((line[:, None] - row) ** 2 + (line - column) ** 2).sqrt()
    return (radius - distance + 0.5).clamp(0, 1)[None]


def find(
    subjects: list[Tensor],
    *question: object,
    scale: tuple[float, float] = (0.6, 1.0),
    overlap: float = 0.1,
    stays: bool = False,
) -> tuple[Placement, ...] | None:
    return find_places(
        subjects,
        (24, 24),
        *question,
        stays=stays,
        scale=scale,
        overlap=overlap,
        resize=resize_plane,
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 9999), overlap=st.sampled_from([0.0, 0.1, 0.5]), stays=st.booleans())
def test_subjects_are_whole_and_hidden_no_more_than_allowed(
    seed: int, overlap: float, stays: bool
) -> None:
    subjects = [disc(8, 8, 5), disc(12, 14, 4), disc(15, 6, 3)]
    places = find(subjects, seed, overlap=overlap, stays=stays)
    if places is None:
        return
    laid = []
    for number, (subject, place) in enumerate(zip(subjects, places, strict=True)):
        assert 0.6 <= place.scale <= 1
        resized = resize_plane(subject, place.scale)
        laid.append(lay_plane(resized, (24, 24), place.down, place.right))
        assert float(laid[-1].sum()) == pytest.approx(float(resized.sum()), rel=1e-5)
        if stays and number == 0:
            assert place == Placement(1.0, 0, 0)
    for number, plane in enumerate(laid):
        visible = plane
        for above in laid[number + 1 :]:
            visible = visible * (1 - above)
        assert float(visible.sum()) >= (1 - overlap) * float(plane.sum()) - 1e-3


def test_places_are_an_answer_to_the_question() -> None:
    subjects = [disc(8, 8, 5), disc(12, 14, 4)]
    assert find(subjects, 0, "clip") == find(subjects, 0, "clip") != find(subjects, 1, "clip")


def test_no_room_is_none() -> None:
    wide = torch.ones(1, 24, 24)
    assert find([wide, disc(8, 8, 5)], 0, overlap=0.2, stays=True, scale=(1.0, 1.0)) is not None
    assert find([wide, disc(8, 8, 5)], 0, overlap=0.1, stays=True, scale=(1.0, 1.0)) is None
    assert find([wide, wide], 0, overlap=0.5, scale=(1.0, 1.0)) is None
    assert find([disc(8, 8, 5), wide], 0, overlap=0.1, stays=True, scale=(1.0, 1.0)) is None
    assert find([disc(8, 8, 5), torch.ones(1, 40, 40)], 0, scale=(1.0, 1.0)) is None


def test_a_subject_without_a_pixel_has_no_place() -> None:
    assert find([disc(8, 8, 5), torch.zeros(1, 24, 24)], 0) is None
    assert find([torch.zeros(1, 24, 24), disc(8, 8, 5)], 0, stays=True) is None


def test_the_box_of_a_moving_subject_holds_all_its_frames() -> None:
    plane = torch.cat([disc(6, 6, 2), disc(16, 18, 2)])
    assert find_box(plane) == ((4, 18), (4, 20))
    assert find_box(torch.zeros(2, 5, 5)) is None
