"""What speaks against a draft: each fault, made by hand in a portrait that has none."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from frisket.maskgen.base import BACKENDS, Box, ModelSource
from frisket.maskgen.draft.grabcut import PersonEstimate, window_of
from frisket.maskgen.draft.portrait import doubts_of

SIDE, FACE = 384, 64  # pixels of the picture and of the face in its middle
X, Y = 192, 120
SKIN, BLACK, BLUE, WALL = (220, 170, 140), (40, 30, 25), (40, 60, 150), (200, 205, 200)
FINE = {"agreement": 1.0, "contact": 0.0, "kept": 0.9, "edged": 1.0}


def portrait() -> dict[str, np.ndarray]:
    """Regions of somebody with short dark hair, in a jacket."""
    planes = {name: np.zeros((SIDE, SIDE), np.uint8) for name in ("face", "hair", "body")}
    cv2.ellipse(planes["hair"], (X, Y - 6), (36, 50), 0, 0, 360, 1, -1)
    cv2.ellipse(planes["face"], (X, Y + 6), (30, 40), 0, 0, 360, 1, -1)
    cv2.rectangle(planes["body"], (X - 16, Y + 30), (X + 16, Y + 70), 1, -1)
    cv2.ellipse(planes["body"], (X, Y + 170), (110, 110), 0, 180, 360, 1, -1)
    cv2.rectangle(planes["body"], (X - 110, Y + 168), (X + 110, SIDE), 1, -1)
    return laid({name: plane > 0 for name, plane in planes.items()})


def laid(planes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    hair = planes["hair"] & ~planes["face"] & (np.arange(SIDE)[:, None] < Y + 10)
    return planes | {"hair": hair, "body": planes["body"] & ~planes["face"] & ~hair}


def doubts(planes: dict[str, np.ndarray], colours=(SKIN, BLACK, BLUE), contact: float = 0.0):
    picture = np.full((SIDE, SIDE, 3), WALL, np.uint8)
    for name, colour in zip(("face", "hair", "body"), colours, strict=True):
        picture[planes[name]] = colour
    box = Box(X - FACE / 2, Y - FACE / 2, X + FACE / 2, Y + FACE / 2)
    window = window_of(picture, box)
    size = window.pixels.shape[1::-1]
    small = {
        name: cv2.resize(
            plane[window.rows, window.columns].astype(np.uint8),
            size,
            interpolation=cv2.INTER_NEAREST,
        )
        > 0
        for name, plane in planes.items()
    }
    person = PersonEstimate(np.any(list(small.values()), axis=0), **FINE | {"contact": contact})
    return doubts_of(window, person, small, SIDE)


def half_jacket(planes):
    body = planes["body"].copy()
    body[Y + 55 :, X + 20 :] = False
    return planes | {"body": body}


def neck_of_hair(planes):
    neck = planes["body"] & (np.arange(SIDE)[:, None] < Y + 71)
    return planes | {"hair": planes["hair"] | neck, "body": planes["body"] & ~neck}


def hairless(planes):
    return planes | {"hair": planes["hair"] & (np.arange(SIDE)[:, None] < Y - 52)}


def wall_of_hair(planes):
    corner = np.zeros((SIDE, SIDE), bool)
    corner[: Y + 60, X + 40 :] = True
    return planes | {"hair": planes["hair"] | corner}


def long_hair(planes):
    body = planes["body"].copy()
    body[Y + 10 : Y + 90, X - 60 : X - 20] = body[Y + 10 : Y + 90, X + 20 : X + 60] = True
    return planes | {"body": body & ~planes["face"] & ~planes["hair"]}


def test_a_portrait_without_fault_is_not_doubted():
    assert all(each.worth > 0.7 for each in doubts(portrait()).values())


@pytest.mark.parametrize(
    ("change", "region", "said"),
    [
        (half_jacket, "body", "one shoulder"),
        (neck_of_hair, "hair", "the neck is called hair"),
        (hairless, "hair", "hair"),
        (wall_of_hair, "hair", "hair"),
        (long_hair, "body", "beside the cheeks"),
    ],
)
def test_a_fault_is_doubted_in_its_region(change, region, said):
    found = doubts(change(portrait()))
    assert found[region].worth < 0.5
    assert said in found[region].message


def test_hair_in_the_colour_of_the_face_is_a_bald_head():
    assert "colour of the face" in doubts(portrait(), (SKIN, SKIN, BLUE))["hair"].message


def test_long_hair_that_is_called_body_is_known_by_its_colour():
    found = doubts(long_hair(portrait()), (SKIN, BLACK, BLACK))
    assert found["hair"].worth < 0.5


def test_an_outline_that_ran_out_is_doubted():
    assert doubts(portrait(), contact=0.2)["body"].worth < 0.5


def test_the_draft_says_why_it_doubts_two_people():
    photos = Path(__file__).parents[3] / "examples" / "photos" / "clips"
    both = [cv2.imread(str(photos / f"{name}.jpg")) for name in ("astronaut", "grace-hopper")]
    picture = cv2.cvtColor(np.hstack(both), cv2.COLOR_BGR2RGB)
    seen = BACKENDS.load("draft").load(ModelSource()).draft([torch.from_numpy(picture)])[0]
    bodies = [each for each in seen.instances if each.region == "body"]
    assert len(bodies) == 2
    assert all(each.score < 0.5 and each.why for each in bodies)
    assert any("2 people" in each.why for each in bodies)
