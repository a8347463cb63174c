"""SAM 2 on pictures: a tiny build through the real path, and answers that are known."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.maskgen.tiny import sam

from frisket.maskgen.backends.sam2 import BACKEND
from frisket.maskgen.base import Box, ModelSource, Segmenter
from frisket.media.frames import decode

PHOTO = Path(__file__).parents[3] / "examples/photos/clips/astronaut.jpg"


def box(*edges, phrase=""):
    return Box(*map(float, edges), phrase=phrase)


FACE, FLAG = box(170, 60, 290, 210, phrase="face"), box(0, 0, 130, 500, phrase="flag")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sam.sam2(tmp_path_factory.mktemp("sam2"))


@pytest.fixture
def sam2(folder):
    return BACKEND.load(ModelSource(path=str(folder)))


@pytest.fixture(scope="module")
def photo():
    return decode(PHOTO)[0]


def masks(segments):
    return torch.stack([segment.mask for segment in segments])


def test_each_box_of_each_picture_has_one_mask_of_its_picture(sam2, photo):
    assert isinstance(sam2, Segmenter)
    crop = photo[:100, :90]
    found = sam2.segment([photo, crop, photo], [[FACE, FLAG], [], [FLAG]])
    assert [[segment.box for segment in one] for one in found] == [[FACE, FLAG], [], [FLAG]]
    assert [segment.phrase for segment in found[0]] == ["face", "flag"]
    for segment in (*found[0], *found[2]):
        assert segment.mask.shape == photo.shape[:2]
        assert segment.mask.dtype == torch.float32
        assert 0 <= segment.mask.min() <= segment.mask.max() <= 1
        assert 0 <= segment.score <= 1
    assert sam2.segment([crop], [[box(1, 1, 50, 50)]])[0][0].mask.shape == (100, 90)


def test_the_same_again_from_the_same_folder(folder, sam2, photo):
    again = BACKEND.load(ModelSource(path=str(folder)))
    one, other = (each.segment([photo], [[FACE]])[0][0] for each in (sam2, again))
    assert torch.equal(one.mask, other.mask)
    assert one.score == other.score


def test_a_box_is_cut_out_the_same_alone_as_among_others(sam2, photo):
    together = sam2.segment([photo.flip(1), photo], [[FLAG], [FLAG, FACE]])
    alone = sam2.segment([photo], [[FACE]])
    torch.testing.assert_close(together[1][1].mask, alone[0][0].mask)
    assert (together[1][0].mask - together[1][1].mask).abs().max() > 1e-2


def test_points_refine_their_own_box_and_no_other(sam2, photo):
    boxes, points = [[FACE, FLAG, FACE]], [[[(230.0, 120.0, True)], [], [(230.0, 120.0, False)]]]
    plain, refined = (
        masks(sam2.segment([photo], boxes)[0]),
        masks(sam2.segment([photo], boxes, points)[0]),
    )
    torch.testing.assert_close(plain[1], refined[1])
    changed = (plain - refined).abs().amax((1, 2))
    assert changed[0] > 1e-3
    assert changed[2] > 1e-3
    assert not torch.equal(refined[0], refined[2])


def test_known_logits_come_back_as_that_square(sam2, monkeypatch):
    asked = {}

    def known(image_embeddings, **prompts):
        asked.update(prompts)
        logits = torch.full((1, 2, 1, 16, 16), -10.0)
        logits[0, 0, 0, 4:8, 2:10] = 10
        return SimpleNamespace(pred_masks=logits, iou_scores=torch.tensor([[[1.25], [0.5]]]))

    monkeypatch.setattr(sam2.model, "forward", known)
    picture = torch.zeros(160, 320, 3, dtype=torch.uint8)
    square, empty = sam2.segment(
        [picture],
        [[box(40, 40, 200, 80), box(0, 0, 320, 160)]],
        [[[(80.0, 60.0, True)], [(10.0, 20.0, False)]]],
    )[0]

    inside = square.mask > 0.5
    rows, columns = torch.where(inside)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (40, 79, 40, 199)
    assert inside.sum() > 0.97 * 40 * 160  # bilinear logits round the corners
    assert not (empty.mask > 0.5).any()
    assert (square.score, empty.score) == (1.0, 0.5)
    # What the model reads is 64 x 64: a fifth of the width, two fifths of the height.
    assert asked["input_boxes"].tolist() == [[[8, 16, 40, 32], [0, 0, 64, 64]]]
    assert asked["input_points"].tolist() == [[[[16, 24]], [[2, 8]]]]
    assert asked["input_labels"].tolist() == [[[1], [0]]]
    assert asked["multimask_output"] is False


def test_without_boxes_no_model_runs(sam2, photo, monkeypatch):
    monkeypatch.setattr(sam2.model, "get_image_embeddings", None)
    assert sam2.segment([photo, photo], [[], []]) == [[], []]
    assert sam2.segment([], []) == []


def test_many_boxes_go_through_the_decoder_in_parts(sam2, photo):
    boxes = [box(i, 0, i + 100, 100 + 3 * i) for i in range(35)]
    found = sam2.segment([photo[:200, :200]], [boxes])[0]
    assert [segment.box for segment in found] == boxes
    alone = sam2.segment([photo[:200, :200]], [[boxes[34]]])[0][0]
    torch.testing.assert_close(found[34].mask, alone.mask)


def test_half_precision_answers_in_float32(folder, photo):
    half = BACKEND.load(ModelSource(path=str(folder), dtype=torch.bfloat16))
    (segment,) = half.segment([photo], [[FACE]], [[[(230.0, 120.0, True)]]])[0]
    assert segment.mask.dtype == torch.float32
    assert torch.isfinite(segment.mask).all()


def test_the_published_checkpoints_are_those_of_the_video_model(tmp_path, photo):
    sam.sam2_video(tmp_path)
    found = BACKEND.load(ModelSource(path=str(tmp_path))).segment([photo], [[FACE]])
    assert found[0][0].mask.shape == photo.shape[:2]
