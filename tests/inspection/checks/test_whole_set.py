"""What only shows beside other clips: outliers, twins, captions; and flicker within one."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.inspection.drawn import clean, draw, roll
from tests.inspection.planted import flicker

from frisket.inspection.checks.captions import find_place, look_at_same_words, look_at_words
from frisket.inspection.checks.files import look_at_formats, look_at_orphans, match_ignoring_case
from frisket.inspection.checks.flicker import find_jumps, look_at_steadiness
from frisket.inspection.checks.near_duplicates import compute_print, find_twins, look_at_twins
from frisket.inspection.checks.outliers import look_at_spread


def spread(shares: list[float], borders: list[float] | None = None) -> dict[str, str]:
    names = [f"{place:02d}" for place in range(len(shares))]
    edges = borders or [0.0] * len(shares)
    found = look_at_spread(
        dict(zip(names, shares, strict=True)), dict(zip(names, edges, strict=True))
    )
    return {one.clip: one.kind for one in found}


def test_outliers_on_either_side() -> None:
    usual = [0.12, 0.15, 0.2, 0.18, 0.22, 0.14, 0.25, 0.17, 0.19]
    assert spread(usual) == {}
    assert spread([*usual, 0.9]) == {"09": "unusual size"}
    assert spread([*usual, 0.01]) == {"09": "unusual size"}


def test_an_outlier_whose_complement_is_usual_is_inverted() -> None:
    usual = [0.12, 0.15, 0.2, 0.18, 0.22, 0.14, 0.25, 0.17, 0.19]
    borders = [0.05] * len(usual)
    assert spread([*usual, 0.8], [*borders, 0.95]) == {"09": "inverted"}
    assert spread([*usual, 0.85], [*borders, 0.7]) == {"09": "unusual size"}  # stops at the rim


@given(st.lists(st.floats(0.1, 0.3), min_size=8, max_size=30))
def test_masks_of_like_sizes_are_never_outliers(shares: list[float]) -> None:
    assert spread(shares) == {}


@given(st.lists(st.sampled_from([0.0, 1.0]), max_size=20))
def test_empty_and_full_masks_are_told_by_others(shares: list[float]) -> None:
    assert spread(shares) == {}


def test_twins_survive_saving_resizing_and_light() -> None:
    rng = np.random.RandomState(0)
    drawings = clean(rng, 24)
    prints = [compute_print(one.picture) for one in drawings]
    assert find_twins(prints) == []
    picture = drawings[7].picture
    smaller = cv2.resize(picture, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    darker = (picture * 0.85).astype(np.uint8)
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 60])
    again = [
        compute_print(each) for each in (smaller, darker, cv2.imdecode(coded, cv2.IMREAD_COLOR))
    ]
    found = find_twins([*prints, *again, compute_print(picture)])
    assert [(earlier, later) for earlier, later, _ in found] == [(7, 24), (7, 25), (7, 26), (7, 27)]
    assert found[-1][2]
    assert not found[1][2]


def test_hundreds_of_copies_are_each_told_once() -> None:
    seal = compute_print(draw(np.random.RandomState(0), "one").picture)
    found = find_twins([seal] * 300)
    assert [later for _, later, _ in found] == list(range(1, 300))


def test_twins_across_the_holdout_and_across_sets() -> None:
    seal = compute_print(draw(np.random.RandomState(0), "one").picture)
    ((place, one),) = look_at_twins(["a", "b"], [seal, seal], [0, 0], frozenset({0}))
    assert (place, one.kind, one.clip) == (1, "overlap", "b")
    assert "a is held out" in one.sentence
    ((_, other),) = look_at_twins(["a", "b"], [seal, seal], [0, 1])
    assert (other.kind, "[[data]] number 1" in other.sentence) == ("duplicate", True)


@pytest.mark.parametrize(
    ("caption", "place"),
    [
        ("sks woman on a sandy beach, smiling", "on a sandy beach"),
        ("photo of sks in front of an old brick wall", "in front of an old brick wall"),
        ("sks in the middle of a park", "in the middle of a park"),
        ("portrait, outdoors", "outdoors"),
        ("a man with mountains in the background", "with mountains"),
        ("sks in a red coat, looking up", None),
        ("sks in a field jacket with a beach hat", None),
        ("leaning on one leg, at rest, with curly hair", None),
        ("in the style of a sea painting", None),
        ("", None),
    ],
)
def test_places_in_captions(caption: str, place: str | None) -> None:
    assert find_place(caption) == place


def words(caption: str, **how: bool) -> list[str]:
    told = {"masked": True, "swapped": False, **how}
    return [one.kind for one in look_at_words("clip", caption, trigger="sks", **told)]


def test_captions() -> None:
    assert words("sks woman, smiling") == []
    assert words("a woman") == ["trigger"]
    assert words("  ") == ["uncaptioned"]
    assert words("sks in a kitchen") == ["background named"]
    assert words("sks in a kitchen", masked=False) == []


@given(st.text())
def test_any_text_is_a_caption(text: str) -> None:
    words(text)


def test_same_captions() -> None:
    long = "sks woman in a red coat, smiling"
    told = look_at_same_words({"a": long, "b": "sks, other words of its own", "c": long}, "sks")
    assert [(one.kind, one.clip) for one in told] == [("same caption", "c")]
    assert not list(look_at_same_words({name: "sks" for name in "abc"}, "sks"))
    (whole,) = look_at_same_words({f"{n}": long for n in range(40)}, "sks")
    assert whole.clip == ""
    assert "39 more" in whole.sentence


def test_flicker_is_told_with_its_frame_and_motion_is_not() -> None:
    rng = np.random.RandomState(3)
    for _ in range(6):
        _, pictures, masks, _ = roll(rng, "roll")
        steady = torch.from_numpy(masks).float() / 255
        broken = torch.from_numpy(flicker(rng, masks)).float() / 255
        frames = torch.from_numpy(pictures)

        def get(places, frames=frames):
            return frames[list(places)]

        assert find_jumps(steady, get) == []
        (found,) = look_at_steadiness("roll", broken, get)
        assert found.kind == "flicker"
        assert "jumps at frame" in found.sentence


def test_a_cut_in_the_clip_is_no_flicker() -> None:
    rng = np.random.RandomState(0)
    one, other = draw(rng, "a", (128, 128)), draw(rng, "b", (128, 128))
    frames = torch.from_numpy(np.stack([one.picture, other.picture]))
    masks = torch.stack([torch.from_numpy(each.mask).float() / 255 for each in (one, other)])
    assert find_jumps(masks, lambda places: frames[list(places)]) == []


def test_orphans_that_only_differ_in_capitals(tmp_path) -> None:
    orphans = {name: tmp_path / f"{name}.png" for name in ("Anna", "bea_mask", "Cara", "CARA", "x")}
    lacking = ["anna", "bea", "cara"]
    assert match_ignoring_case(orphans, lacking) == {"Anna": "anna"}
    told = {
        one.sentence.split("/")[-1].split(".")[0]: one
        for one in look_at_orphans(orphans, lacking, tmp_path)
    }
    assert "--fix" in told["Anna"].fix
    assert "bea.png" in told["bea_mask"].fix
    assert "--fix" not in told["Cara"].fix
    assert "or remove it" in told["x"].fix


def test_lossy_masks_are_noted(tmp_path) -> None:
    (found,) = look_at_formats("a", [tmp_path / "a.JPG", tmp_path / "b.png"])
    assert (found.kind, found.severity) == ("lossy mask", "note")
