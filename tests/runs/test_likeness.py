"""Likeness of pictures to people, on drawn people and the package's own networks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.evaluation.identity import TooFewReferences
from frisket.faces.choose import FaceNotUsable
from frisket.faces.recognise import FaceModels, open_recogniser
from frisket.pocket.portraits import draw_person, sample_person, sample_view
from frisket.runs.likeness import (
    LOOKED_AT,
    gather_person,
    measure_likeness,
    pick_evenly,
    read_references,
)


@pytest.fixture(scope="module")
def recogniser():
    return open_recogniser(FaceModels("tiny"))


def draw_frames(person, view, side=64):
    """A clip of one frame."""
    drawn = draw_person(
        sample_person(np.random.RandomState(70_000 + person)),
        sample_view(np.random.RandomState(80_000 + view), spread=0.5),
        side,
    )
    return torch.from_numpy(drawn.picture)[None]


@pytest.fixture(scope="module")
def people(recogniser, tmp_path_factory):
    """Three drawn people, of three pictures each."""
    folder = tmp_path_factory.mktemp("people")
    pictures: dict[str, list[Path]] = {}
    for number, name in enumerate(("ada", "bob", "cyd")):
        for view in range(3):
            file = folder / f"{name}-{view}.png"
            Image.fromarray(draw_frames(number, view)[0].numpy()).save(file)
            pictures.setdefault(name, []).append(file)
    return read_references(recogniser, pictures)


def test_people_are_recognised_on_new_pictures(recogniser, people):
    clips = [draw_frames(person, 50 + view) for person in range(3) for view in range(4)]
    right = 0
    for number, person in enumerate(people):
        table = measure_likeness(recogniser, clips[4 * number : 4 * number + 4], [person])
        others = [
            measure_likeness(recogniser, clips[4 * number : 4 * number + 4], [other])
            for other in people
            if other is not person
        ]
        own = [row[0].cosine for row in table.pictures]
        right += sum(
            cosine > max(other.pictures[row][0].cosine for other in others)
            for row, cosine in enumerate(own)
        )
        assert np.mean(own) > 0.5
    assert right >= 10  # of 12


def test_empty_pictures_count_and_are_said(recogniser, people):
    clips = [draw_frames(0, 60), torch.full((1, 64, 64, 3), 90, dtype=torch.uint8)]
    table = measure_likeness(recogniser, clips, people[:1])
    assert table.describe(1) == "ada: no face"
    assert table.describe(0).startswith("ada 0.")
    record = table.as_record()
    json.dumps(record)
    assert record["pictures"][1] == {"ada": {"cosine": 0.0, "detected": 0.0}}
    assert record["people"]["ada"]["detected"] == 0.5
    assert record["people"]["ada"]["cosine"] == pytest.approx(table.pictures[0][0].cosine / 2)
    assert record["people"]["ada"]["right"] is None


def test_a_clip_is_the_mean_of_frames_evenly_over_it(recogniser, people):
    clip = torch.cat([draw_frames(0, 90), draw_frames(0, 91), torch.zeros_like(draw_frames(0, 0))])
    (row,) = measure_likeness(recogniser, [clip], people[:1]).pictures
    singles = measure_likeness(recogniser, [clip[n : n + 1] for n in range(3)], people[:1]).pictures
    cosines = [single.cosine for (single,) in singles]
    assert cosines[2] == 0
    assert row[0].cosine == pytest.approx(sum(cosines) / 3, abs=1e-5)
    assert row[0].detected == pytest.approx(2 / 3)


def test_two_people_on_one_picture_are_each_their_own(recogniser, people):
    both = torch.cat([draw_frames(1, 70), draw_frames(0, 71)], 2)
    ((ada, bob),) = measure_likeness(recogniser, [both], people[:2]).pictures
    assert ada.detected == bob.detected == 1
    alone = measure_likeness(recogniser, [draw_frames(0, 71)], people[:1])
    assert ada.cosine == pytest.approx(alone.pictures[0][0].cosine, abs=0.25)


def test_frames_are_picked_from_first_to_last():
    assert pick_evenly(1) == [0]
    assert pick_evenly(3) == [0, 1, 2]
    picks = pick_evenly(81)
    assert (picks[0], picks[-1], len(picks)) == (0, 80, LOOKED_AT)


def test_what_cannot_be_measured_is_named(recogniser, people, tmp_path):
    file = tmp_path / "wall.png"
    Image.new("RGB", (64, 64), (90, 90, 90)).save(file)
    with pytest.raises(FaceNotUsable, match=r"wall\.png shows no face"):
        read_references(recogniser, {"ada": [file]})
    with pytest.raises(TooFewReferences, match="ada: no picture"):
        gather_person("ada", [])
    with pytest.raises(ValueError, match="there are 3 and 0"):
        measure_likeness(recogniser, [], people)
