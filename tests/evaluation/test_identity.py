from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frisket.evaluation.identity import (
    PersonReferences,
    TooFewReferences,
    assign_faces,
    compare_faces,
    find_person,
    measure_identity,
    measure_people,
)

WIDTH = 16
SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=25, deadline=None)


def draw_person(name, seed, count=5, spread=0.5):
    """References around a direction of their own; norms differ."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.randn(WIDTH, generator=generator)
    rows = middle + spread * torch.randn(count, WIDTH, generator=generator)
    return PersonReferences(name, rows * (5 + 20 * torch.rand(count, 1, generator=generator)))


def draw_pictures(seed, count=6):
    """Faces of all kinds, and a picture without one."""
    generator = torch.Generator().manual_seed(seed)
    return [*torch.randn(count, WIDTH, generator=generator), None]


@FEW
@given(SEEDS, st.floats(0.1, 50))
def test_lengths_of_embeddings_do_not_matter(seed, factor):
    ada, bob = draw_person("ada", seed), draw_person("bob", seed + 1)
    pictures = draw_pictures(seed)
    scaled = [None if face is None else face * factor for face in pictures]
    units = PersonReferences("ada", ada.units)
    score, other = (
        measure_identity(faces, person, [ada, bob])
        for faces, person in ((pictures, ada), (scaled, units))
    )
    assert score.cosines == pytest.approx(other.cosines, abs=1e-5)
    assert score.copying.nearest == pytest.approx(other.copying.nearest, abs=1e-5)
    assert score.spread == pytest.approx(other.spread, abs=1e-5)
    assert (score.detected, score.right) == (other.detected, other.right)


@FEW
@given(SEEDS)
def test_a_turn_of_the_whole_space_changes_nothing(seed):
    turn = torch.linalg.qr(
        torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed))
    ).Q
    ada = draw_person("ada", seed)
    pictures = draw_pictures(seed)
    turned = [None if face is None else face @ turn for face in pictures]
    score = measure_identity(pictures, ada)
    other = measure_identity(turned, PersonReferences("ada", ada.embeddings @ turn))
    assert score.cosines == pytest.approx(other.cosines, abs=1e-4)
    assert score.copying.between == pytest.approx(other.copying.between, abs=1e-4)


@FEW
@given(SEEDS)
def test_the_order_of_references_does_not_matter(seed):
    ada = draw_person("ada", seed)
    back = PersonReferences("ada", ada.embeddings.flip(0))
    pictures = draw_pictures(seed)
    assert measure_identity(pictures, ada).cosines == pytest.approx(
        measure_identity(pictures, back).cosines, abs=1e-5
    )
    assert ada.measure_spread() == pytest.approx(back.measure_spread()[::-1], abs=1e-5)


@FEW
@given(SEEDS, st.integers(1, 5))
def test_pictures_without_a_face_lower_every_number(seed, missing):
    people = [draw_person("ada", seed), draw_person("bob", seed + 1)]
    faces = list(people[0].units)
    score = measure_identity(faces, people[0], people)
    worse = measure_identity([*faces, *[None] * missing], people[0], people)
    share = len(faces) / (len(faces) + missing)
    assert fmean(worse.cosines) == pytest.approx(fmean(score.cosines) * share)
    assert fmean(worse.detected) == pytest.approx(share)
    assert fmean(worse.right) == pytest.approx(fmean(score.right) * share)
    assert worse.cosines[: len(faces)] == score.cosines
    assert len(worse.cosines) == len(worse.detected) == len(worse.right) == len(faces) + missing


def test_nobody_at_all_is_a_number_too():
    ada = draw_person("ada", 0)
    score = measure_identity([None, None], ada)
    assert (score.cosines, score.detected, score.right) == ((0.0, 0.0), (0.0, 0.0), None)
    assert score.copying.excess is None


def test_the_centroid_itself_is_like_and_its_opposite_is_not():
    ada = draw_person("ada", 3)
    score = measure_identity([ada.centroid * 20, -ada.centroid], ada)
    assert score.cosines == pytest.approx((1, -1), abs=1e-6)


@FEW
@given(SEEDS)
def test_people_far_apart_are_told_apart(seed):
    turn = torch.linalg.qr(
        torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed))
    ).Q
    noise = 0.1 * torch.randn(4, 3, WIDTH, generator=torch.Generator().manual_seed(seed + 1))
    people = [PersonReferences(name, turn[n] + noise[n] / 4) for n, name in enumerate("abcd")]
    for person in people:
        assert [find_person(row, people) for row in person.embeddings] == [person.name] * 3
        score = measure_identity(list(person.embeddings), person, people)
        assert score.right == (1.0, 1.0, 1.0)
        assert measure_identity(list(people[0].embeddings), people[1], people).right == (0.0,) * 3


@FEW
@given(SEEDS)
def test_copies_are_told_from_new_pictures(seed):
    ada = draw_person("ada", seed, count=6)
    copies = measure_identity(list(ada.embeddings), ada).copying
    assert copies.nearest == pytest.approx([1] * 6, abs=1e-6)
    assert copies.excess > 0
    ours, theirs = ada.embeddings[::2], ada.embeddings[1::2]  # pictures nobody copied
    fresh = measure_identity(list(theirs), PersonReferences("ada", ours)).copying
    assert fresh.excess < copies.excess


def test_one_reference_has_no_spread_and_no_copy():
    one = PersonReferences("ada", torch.ones(1, 4))
    score = measure_identity([torch.ones(4)], one)
    assert (score.spread, score.copying.between) == ((), ())
    assert score.copying.excess is None


def test_spread_leaves_each_reference_out_of_its_centroid():
    ada = draw_person("ada", 5, count=3)
    rest = PersonReferences("ada", ada.units[1:])
    assert ada.measure_spread()[0] == pytest.approx(
        compare_faces(ada.embeddings[0], rest.centroid), abs=1e-5
    )


@FEW
@given(SEEDS, st.integers(0, 4))
def test_each_face_is_one_person_s(seed, count):
    people = [draw_person(name, seed + n) for n, name in enumerate("abc")]
    faces = list(torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)))
    owners = assign_faces(faces, people)
    indices = [index for index in owners.values() if index is not None]
    assert sorted(indices) == sorted(set(indices))
    assert len(indices) == min(count, 3)


def test_people_on_one_picture_are_measured_each_by_its_own_face():
    ada, bob = draw_person("ada", 1, spread=0.1), draw_person("bob", 2, spread=0.1)
    both = [bob.embeddings[0], ada.embeddings[0]]
    scores = measure_people([both, both[:1]], [ada, bob])
    assert scores["ada"].detected == (1.0, 0.0)
    assert scores["bob"].detected == (1.0, 1.0)
    assert scores["ada"].cosines[0] > 0.9
    assert scores["ada"].right == (1.0, 0.0)
    assert scores["bob"].right == (1.0, 1.0)


def test_what_cannot_be_measured_says_why():
    with pytest.raises(TooFewReferences, match="ada: no picture of references shows a face"):
        PersonReferences("ada", torch.zeros(0, 4))
    with pytest.raises(ValueError, match="ada: an embedding of the references is 0"):
        PersonReferences("ada", torch.zeros(2, 4))
    ada = PersonReferences("ada", torch.ones(2, 4))
    with pytest.raises(ValueError, match="ada: there is no picture"):
        measure_identity([], ada)
    with pytest.raises(ValueError, match=r"picture 1: its embedding has 3 numbers and ada's 4"):
        measure_identity([None, torch.ones(3)], ada)
