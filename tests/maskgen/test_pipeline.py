"""Which backends a name stands for, and what is asked of them together."""

import pytest
import torch

from frisket.maskgen.base import BACKENDS, BackendUnusable, Box, Detections, ModelSource, Segment
from frisket.maskgen.cleanup.stages import (
    GroundedPipeline,
    ReducedPipeline,
    draw_ellipse,
    draw_rectangle,
    phrases_of,
    planes_of,
)
from frisket.maskgen.pipeline import (
    COMPOSITIONS,
    Models,
    PipelineParts,
    backends_of,
    list_licences,
    needs_phrases,
    regions_of,
    resolve_parts,
)
from frisket.maskgen.vision.classes import get_grouping
from frisket.registry import UnknownPlugin

PICTURE = torch.zeros((40, 60, 3), dtype=torch.uint8)


class Boxes:
    """A detector that finds what it is told of."""

    def __init__(self, found: dict[str, list[Box]]) -> None:
        self.found, self.asked = found, []

    def detect(self, pictures, phrases):
        self.asked += phrases
        return [[b for phrase in each for b in self.found.get(phrase, [])] for each in phrases]


class Cut:
    """A segmenter that fills its boxes."""

    def segment(self, pictures, boxes, points=None):
        return [
            [Segment(draw_rectangle(box, *picture.shape[:2]), 0.7, box, box.phrase) for box in each]
            for picture, each in zip(pictures, boxes, strict=True)
        ]


@pytest.mark.parametrize("name", sorted(COMPOSITIONS))
def test_compositions_are_made_of_backends_that_fit(name):
    parts = resolve_parts(name)
    assert all(each in BACKENDS.names() for each in backends_of(parts))
    assert len(list(list_licences(backends_of(parts)))) == len(set(backends_of(parts)))


def test_a_backend_alone_is_completed_and_may_be_changed():
    assert resolve_parts("grounding_dino") == PipelineParts(
        "grounding_dino", "sam2", tracker="sam2_video"
    )
    assert resolve_parts("sam3").tracker == "sam3_video"
    assert resolve_parts("draft") == PipelineParts("draft")
    assert resolve_parts("florence2", segmenter="none", tracker="none") == PipelineParts(
        "florence2"
    )
    assert resolve_parts("sapiens", people="grounding_dino").people == "grounding_dino"


@pytest.mark.parametrize(
    ("said", "name", "options"),
    [
        ("did you mean 'grounded-sam2'", "grounded-sam", {}),
        ("cuts out or follows what others have found.*grounded-sam2", "sam2", {}),
        ("makes masks itself", "clipseg", {"segmenter": "sam2"}),
        ("is no segmenter; there are: sam2, or none", "florence2", {"segmenter": "draft"}),
        ("parses nobody", "florence2", {"people": "grounding_dino"}),
        ("is no tracker", "florence2", {"tracker": "sam2"}),
    ],
)
def test_what_cannot_stand_there_is_refused(said, name, options):
    with pytest.raises((UnknownPlugin, BackendUnusable), match=said):
        resolve_parts(name, **options)


def test_what_must_be_told_and_what_is_known():
    assert needs_phrases(resolve_parts("sam3"))
    assert not needs_phrases(resolve_parts("draft"))
    assert regions_of(resolve_parts("draft"), get_grouping()) == ("face", "hair", "body")
    assert regions_of(resolve_parts("sapiens"), get_grouping("parts")) == (
        *("face", "hair", "hands", "clothes", "body"),
    )
    assert regions_of(resolve_parts("insightface"), get_grouping()) == ("face",)
    assert regions_of(resolve_parts("clipseg"), get_grouping()) == ()


def test_thresholds_reach_the_model_that_is_loaded():
    models = Models({}, ModelSource(), {"draft.vote": 0.9})
    assert models.get("draft").vote == 0.9
    assert dict(models.describe(["draft"])[0].thresholds)["vote"] == 0.9
    models.close()
    with pytest.raises(BackendUnusable, match="has no threshold 'votes', did you mean 'vote'"):
        Models({}, ModelSource(), {"draft.votes": 0.9}).get("draft")


def test_boxes_become_masks_of_the_region_their_phrase_names():
    detector = Boxes(
        {
            "head": [Box(10.0, 5.0, 20.0, 15.0, 0.9, "head")],
            "mug": [Box(30.0, 20.0, 50.0, 36.0, 0.4, "mug")],
        }
    )
    look = GroundedPipeline(detector, Cut(), loosen=0.2)
    wanted = {"face": ("head",), "subject": ("mug",)}
    (seen,) = look([PICTURE], [wanted])
    assert [(one.region, one.phrase, one.score) for one in seen.instances] == [
        ("face", "head", 0.7),
        ("subject", "mug", 0.4),
    ]
    assert detector.asked == [["head", "mug"]]
    planes = planes_of(seen, ("face", "hair", "subject"), 40, 60)
    assert list(planes) == ["face", "hair", "subject"]
    assert int(planes["face"].sum()) == 12 * 12  # the box, a fifth larger
    assert not planes["hair"].any()


def test_without_a_segmenter_the_box_is_the_mask():
    look = GroundedPipeline(Boxes({"mug": [Box(10.0, 5.0, 20.0, 15.0, None, "mug")]}), None)
    (seen,) = look([PICTURE], [{"subject": ("mug",)}])
    assert torch.equal(seen.instances[0].mask, draw_rectangle(Box(10.0, 5.0, 20.0, 15.0), 40, 60))
    assert seen.instances[0].score is None


def test_a_phrase_of_two_regions_is_of_the_first():
    assert phrases_of({"face": ("head",), "hair": ("head", "curls")}) == {
        "head": "face",
        "curls": "hair",
    }


def test_a_smaller_look_is_brought_back_to_size():
    sizes = []

    def look(pictures, wanted):
        sizes.extend(picture.shape[:2] for picture in pictures)
        return GroundedPipeline(Boxes({"mug": [Box(5.0, 5.0, 15.0, 10.0, 0.9, "mug")]}), None)(
            pictures, wanted
        )

    reduced = ReducedPipeline(look, 30)
    (seen,) = reduced([PICTURE], [{"subject": ("mug",)}])
    assert sizes == [(20, 30)]
    (one,) = seen.instances
    assert one.mask.shape == (40, 60)
    assert (one.box.left, one.box.bottom) == (10.0, 20.0)
    inside = one.mask >= 0.5
    assert torch.equal(inside, draw_rectangle(Box(10.0, 10.0, 30.0, 20.0), 40, 60) > 0)
    small = torch.zeros((20, 30, 3), dtype=torch.uint8)
    assert isinstance(reduced([small], [{"subject": ("mug",)}])[0], Detections)


def test_an_ellipse_touches_the_sides_of_its_box():
    mask = draw_ellipse(Box(10.0, 4.0, 30.0, 34.0), 40, 60)
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    assert (int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])) == (4, 33, 10, 29)
    assert float(mask.sum()) == pytest.approx(3.14159 * 10 * 15, rel=0.02)
