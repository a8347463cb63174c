"""Classes to regions by name, sums without every class in memory, and the chin."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor
from torch.nn import functional as F

from frisket.maskgen.backends.sapiens import V1, V2
from frisket.maskgen.vision import classes as module
from frisket.maskgen.vision.classes import (
    BadGrouping,
    Grouping,
    cut_neck,
    get_grouping,
    sum_softmax,
)

ATR = (
    *("Background", "Hat", "Hair", "Sunglasses", "Upper-clothes", "Skirt", "Pants", "Dress"),
    *("Belt", "Left-shoe", "Right-shoe", "Face", "Left-leg", "Right-leg", "Left-arm"),
    *("Right-arm", "Bag", "Scarf"),
)
LOGITS = hnp.arrays(np.float32, (29, 7, 5), elements=st.floats(-9, 9, width=32))


def one_hot(picture: Tensor, names: tuple[str, ...]) -> Tensor:
    """Certain probabilities from a picture of class numbers."""
    return F.one_hot(picture.long(), len(names)).permute(2, 0, 1).float()


def to_regions(probabilities: Tensor, names: tuple[str, ...], how: Grouping) -> dict[str, Tensor]:
    """A parser's answer as one mask a region."""
    table = how.table(names)
    return table.regions_of(torch.einsum("rk,khw->rhw", table.weights, probabilities))


def head(high: int = 100, wide: int = 60) -> tuple[Tensor, Tensor]:
    """A face and its neck from row 10 to 90, lips in rows 50 to 53: the chin is in row 67."""
    face, lips = torch.zeros(high, wide), torch.zeros(high, wide)
    face[10:91, 20:40] = 1
    lips[50:54, 25:35] = 1
    return face - lips, lips


@pytest.mark.parametrize("names", [V1, V2, ATR], ids=["v1", "v2", "atr"])
@pytest.mark.parametrize("kind", ["person", "parts"])
def test_every_class_of_a_parser_has_a_region(names: tuple[str, ...], kind: str) -> None:
    table = get_grouping(kind).table(names)
    assert set(table.regions) <= set(module.REGIONS)
    assert {"face", "hair", "body", "background"} <= set(table.regions)


def test_a_name_means_the_same_region_in_both_versions() -> None:
    parts = get_grouping("parts")
    assert V1.index("Hair") != V2.index("Hair")
    for names in (V1, V2):
        hair = to_regions(one_hot(torch.full((4, 4), names.index("Hair")), names), names, parts)
        assert float(hair["hair"].min()) == 1
    assert [parts.region(name) for name in ("Right_Hand", "Left_Shoe", "Torso", "Eyeglass")] == [
        *("hands", "clothes", "body", "face")
    ]
    assert get_grouping("person").region("Right_Hand") == "body"


@settings(max_examples=40, deadline=None)
@given(
    logits=LOGITS,
    kind=st.sampled_from(["person", "parts"]),
    neck=st.sampled_from(["face", "body"]),
)
def test_regions_share_every_pixel_out(logits: np.ndarray, kind: str, neck: str) -> None:
    regions = to_regions(torch.from_numpy(logits).softmax(0), V2, get_grouping(kind, neck=neck))
    planes = torch.stack(list(regions.values()))
    torch.testing.assert_close(planes.sum(0), torch.ones(7, 5))
    assert float(planes.min()) >= 0
    assert float(planes.max()) <= 1


def test_overrides_go_first_and_for_both_sides() -> None:
    own = get_grouping("person", {"Hand": "hands", "left-shoe": "background"})
    assert own.region("Left_Hand") == own.region("Right_Hand") == "hands"
    assert own.region("Left_Shoe") == "background"
    assert own.region("Right_Shoe") == "body"
    assert (
        get_grouping("person", {"Hat": "cap"}, regions=["cap", "body"]).table(ATR).regions[-1]
        == "cap"
    )


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(BadGrouping, match="did you mean 'person'"):
        get_grouping("persons")
    with pytest.raises(BadGrouping, match="did you mean 'hair'"):
        get_grouping("person", {"Hair": "hairs"})
    with pytest.raises(BadGrouping, match=r"'eyeglases', did you mean 'eyeglass'"):
        get_grouping("person", {"Eyeglases": "body"}).table(V2)
    with pytest.raises(BadGrouping, match="did you mean 'body'"):
        get_grouping("person", neck="bodi")
    with pytest.raises(BadGrouping, match="'Tail' has no region"):
        get_grouping("person").table(("Background", "Tail"))


@settings(max_examples=25, deadline=None)
@given(logits=LOGITS, high=st.integers(1, 40), wide=st.integers(1, 40), band=st.integers(1, 5000))
def test_bands_give_the_softmax_of_resized_logits(
    logits: np.ndarray, high: int, wide: int, band: int
) -> None:
    low = torch.from_numpy(logits)
    whole = F.interpolate(low[None], (high, wide), mode="bilinear", align_corners=False)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BAND", band)
        sums = sum_softmax(low, torch.eye(29), high, wide)
    torch.testing.assert_close(sums, whole.softmax(0), atol=2e-5, rtol=2e-4)


def test_the_neck_is_cut_at_the_chin() -> None:
    face, lips = head()
    above = cut_neck(face, lips)
    assert torch.equal(above[:68], face[:68])
    assert float(above[68:].max()) == 0


def test_each_face_is_cut_at_its_own_chin() -> None:
    face, lips = head()
    lower, lower_lips = (torch.roll(each, 8, 0) for each in (face, lips))
    above = cut_neck(torch.cat([face, lower], 1), torch.cat([lips, lower_lips], 1))
    assert torch.equal(above, torch.cat([cut_neck(face, lips), cut_neck(lower, lower_lips)], 1))
    assert float(above[75, 80:100].min()) == 1
    assert float(above[75, 20:40].max()) == 0


def test_the_soft_rim_of_a_neck_goes_with_it() -> None:
    face, lips = head()
    face[80, 40:43] = torch.tensor([0.4, 0.2, 0.1])
    assert float(cut_neck(face, lips)[80].max()) == 0


def test_without_lips_nothing_is_cut_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    face, lips = head()
    with caplog.at_level(logging.INFO):
        assert torch.equal(cut_neck(face, torch.zeros_like(lips)), face)
    assert "no lips are seen" in caplog.text


def test_the_neck_goes_to_the_body_or_stays() -> None:
    face, lips = head()
    picture = torch.zeros(100, 60)
    picture[face > 0] = V2.index("Face_Neck")
    picture[lips > 0] = V2.index("Upper_Lip")
    probabilities = one_hot(picture, V2)
    cut = to_regions(probabilities, V2, get_grouping("person"))
    assert float(cut["face"][10:68, 20:40].min()) == 1
    assert float(cut["body"][68:91, 20:40].min()) == 1
    whole = to_regions(probabilities, V2, get_grouping("person", neck="face"))
    assert float(whole["face"][10:91, 20:40].min()) == 1
    assert float(whole["body"].max()) == 0


def test_a_grouping_of_your_own() -> None:
    own = Grouping({"background": "background", "cat": "subject"})
    assert own.table(("Background", "Cat")).regions == ("background", "subject")


def test_regions_are_listed_in_one_order() -> None:
    assert get_grouping("parts").regions == module.REGIONS
    assert get_grouping("person").regions == ("face", "hair", "body", "background")
