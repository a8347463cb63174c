"""People parsed one by one and put back: numbers, overlaps, and pictures without anybody."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from frisket.maskgen.backends.sapiens import V2, Sapiens
from frisket.maskgen.base import Box, ClassMasks, Instance, RgbPicture
from frisket.maskgen.vision.classes import get_grouping
from frisket.maskgen.vision.person_crops import parse_people
from frisket.maskgen.vision.preprocess import Preprocessing

PERSON = get_grouping("person")
HAIR, TORSO = V2.index("Hair"), V2.index("Torso")


def by_colour(batch: Tensor) -> Tensor:
    """Red is hair, green is torso; surer the brighter."""
    logits = batch.new_zeros(len(batch), len(V2), *batch.shape[2:])
    logits[:, 0] = 6
    logits[:, HAIR], logits[:, TORSO] = 20 * batch[:, 0], 20 * batch[:, 1]
    return logits


SAPIENS = Sapiens(by_colour, V2, Preprocessing(64, 48, (0.0,) * 3, (1.0,) * 3))


class Plain:
    """A parser with the contract alone, which answers at once what SAPIENS does."""

    classes = V2

    def parse(self, pictures: Sequence[RgbPicture]) -> list[ClassMasks]:
        return SAPIENS.parse(pictures)


def group_photo() -> tuple[RgbPicture, list[Box]]:
    """Two people, hair above torso, side by side with boxes that overlap by their margins."""
    picture = torch.zeros(120, 200, 3, dtype=torch.uint8)
    for left in (20, 100):
        picture[20:50, left : left + 60, 0] = 255
        picture[50:110, left : left + 60, 1] = 255
    return picture, [Box(20.0, 20.0, 80.0, 110.0), Box(100.0, 20.0, 160.0, 110.0)]


def plane(instances: Sequence[Instance], person: int | None, region: str) -> Tensor:
    (mask,) = [i.mask for i in instances if (i.person, i.region) == (person, region)]
    return mask


def test_two_people_are_told_apart_and_share_no_pixel() -> None:
    picture, boxes = group_photo()
    (found,) = parse_people(SAPIENS, [picture], [boxes], grouping=PERSON)
    assert [(each.person, each.region) for each in found] == [
        *((0, "hair"), (0, "body"), (1, "hair"), (1, "body"))
    ]
    first, second = (
        torch.stack([each.mask for each in found if each.person == n]).sum(0) for n in (0, 1)
    )
    assert float((first * second).max()) == 0
    assert float(plane(found, 0, "hair")[24:46, 24:76].min()) > 0.99
    assert float(plane(found, 1, "body")[54:106, 104:156].min()) > 0.99
    assert float(plane(found, 0, "hair")[:, 96:].max()) < 0.01
    assert {each.box for each in found} == set(boxes)
    assert all(0.9 < each.score <= 1 for each in found)


def test_where_crops_overlap_the_likelier_person_has_the_pixel() -> None:
    picture, boxes = group_photo()
    narrow = [boxes[0], Box(60.0, 20.0, 160.0, 110.0)]
    (found,) = parse_people(SAPIENS, [picture], [narrow], grouping=PERSON)
    both = plane(found, 0, "body") + plane(found, 1, "body")
    assert float(both.max()) <= 1
    assert float(both[56:104, 24:76].min()) > 0.99


def test_any_parser_of_the_contract_gives_the_same() -> None:
    picture, boxes = group_photo()
    (ours,) = parse_people(SAPIENS, [picture], [boxes], grouping=PERSON)
    (theirs,) = parse_people(Plain(), [picture], [boxes], grouping=PERSON)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.mask, other.mask)
        assert one.score == pytest.approx(other.score)


def test_without_boxes_the_whole_picture_is_parsed() -> None:
    picture, _ = group_photo()
    (found,) = parse_people(SAPIENS, [picture], grouping=PERSON)
    assert [(each.person, each.region, each.box) for each in found] == [
        *((None, "hair", None), (None, "body", None))
    ]
    assert float(plane(found, None, "hair")[24:46, 24:76].min()) > 0.99


def test_pictures_keep_their_own_people() -> None:
    picture, boxes = group_photo()
    empty = torch.zeros(50, 70, 3, dtype=torch.uint8)
    found = parse_people(
        SAPIENS, [picture, empty, picture], [boxes[:1], [], boxes[1:]], grouping=PERSON
    )
    assert [len(each) for each in found] == [2, 0, 2]
    assert float(plane(found[2], 0, "hair")[24:46, 104:156].min()) > 0.99
    assert parse_people(SAPIENS, [empty], [[Box(0.0, 0.0, 70.0, 50.0)]], grouping=PERSON) == [[]]


def test_a_box_at_the_border_is_cut_to_the_picture() -> None:
    picture, _ = group_photo()
    (found,) = parse_people(SAPIENS, [picture], [[Box(90.0, -5.0, 230.0, 140.0)]], grouping=PERSON)
    assert plane(found, 0, "hair").shape == (120, 200)


def test_a_neighbours_arm_in_the_margin_stays_the_neighbours() -> None:
    picture = torch.zeros(60, 100, 3, dtype=torch.uint8)
    picture[10:50, 5:95, 1] = 255
    boxes = [Box(5.0, 10.0, 50.0, 50.0), Box(50.0, 10.0, 95.0, 50.0)]
    (found,) = parse_people(SAPIENS, [picture], [boxes], grouping=PERSON, margin=0.4)
    assert float(plane(found, 0, "body")[14:46, 51:].max()) == 0
    assert float(plane(found, 1, "body")[14:46, :49].max()) == 0
