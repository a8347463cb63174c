"""SAM 2 on video: held against the model's own loop, and on a pocket clip of two objects."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.maskgen.tiny import sam

from frisket.maskgen.backends import sam2_video
from frisket.maskgen.backends.sam2_video import BACKEND
from frisket.maskgen.base import Box, ModelSource, Seed, Tracker
from frisket.maskgen.vision.preprocess import enlarge, pixels, scale_box
from frisket.pocket.world import Background, Scene, draw, frames_of

SIZE = 64
LEFT, RIGHT = 3, 11  # the numbers of the two objects


def pocket(count):
    """A red circle moving right above a blue square moving left, and the mask of each."""
    ground = Background("checks", "green", "white")
    circle = Scene(ground, "circle", "red", x=10.0, y=9.0, radius=5.0, motion="rightward")
    square = Scene(ground, "square", "blue", x=22.0, y=23.0, radius=6.0, motion="leftward")
    clip, masks = [], {LEFT: [], RIGHT: []}
    for one, other in zip(
        frames_of(circle, count, 1.0), frames_of(square, count, 1.0), strict=True
    ):
        picture, planes = draw(one, SIZE)
        second, others = draw(other, SIZE)
        alpha = others["subject"][..., None]
        clip.append((picture * (1 - alpha) + second * alpha).round().astype(np.uint8))
        masks[LEFT].append(planes["subject"])
        masks[RIGHT].append(others["subject"])
    planes = {number: torch.from_numpy(np.stack(each)) for number, each in masks.items()}
    return torch.from_numpy(np.stack(clip)), planes


def box(*edges):
    return Box(*map(float, edges))


def box_of(mask):
    rows, columns = torch.where(mask > 0.5)
    edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return box(*edges)


def same(mask, wanted):
    """The same box and nearly the same pixels: bilinear logits round a square's corners."""
    mask, wanted = mask > 0.5, wanted > 0.5
    return box_of(mask) == box_of(wanted) and (mask & wanted).sum() / (mask | wanted).sum() > 0.97


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sam.sam2_video(tmp_path_factory.mktemp("sam2_video"))


@pytest.fixture
def tracker(folder):
    return BACKEND.load(ModelSource(path=str(folder)))


def seeds_of(masks, at):
    return [
        Seed(LEFT, at, box=box_of(masks[LEFT][at])),
        Seed(RIGHT, at, mask=masks[RIGHT][at]),
    ]


def stock(tracker, frames, masks, start, reverse):
    """What the model's own loop answers for the seeds of `seeds_of`, the whole clip held."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    video = torch.cat([pixels(frame, tracker.how) for frame in frames])
    session = Sam2VideoInferenceSession(video, SIZE, SIZE, dtype=torch.float32)
    corners = scale_box(box_of(masks[LEFT][start]), frames[start], tracker.how)
    points = {
        "point_coords": torch.tensor(corners).view(1, 1, 2, 2),
        "point_labels": torch.tensor([[[2, 3]]], dtype=torch.int32),
    }
    session.add_point_inputs(session.obj_id_to_idx(LEFT), start, points)
    mask = (masks[RIGHT][start] >= 0.5).float()  # frames are of the model's size here
    session.add_mask_inputs(session.obj_id_to_idx(RIGHT), start, mask[None, None])
    session.obj_with_new_inputs = [LEFT, RIGHT]
    tracker.model(session, frame_idx=start)
    told = tracker.model.propagate_in_video_iterator(
        session, start_frame_idx=start, reverse=reverse
    )
    return {each.frame_idx: enlarge(each.pred_masks[:, 0], SIZE, SIZE).sigmoid() for each in told}


@pytest.mark.parametrize(("start", "reverse"), [(0, False), (4, False), (21, True), (9, True)])
def test_it_answers_what_the_models_own_loop_answers(tracker, start, reverse):
    # 22 frames: more than the 16 the model looks back to, so that forgetting would show.
    frames, masks = pocket(22)
    found = tracker.track(frames, seeds_of(masks, start), reverse=reverse)
    expected = stock(tracker, frames, masks, start, reverse)
    assert sorted(expected) == (list(range(start + 1)) if reverse else list(range(start, 22)))
    for at in range(22):
        for i, number in enumerate((LEFT, RIGHT)):
            wanted = expected[at][i] if at in expected else torch.zeros(SIZE, SIZE)
            torch.testing.assert_close(found[number][at], wanted, atol=1e-5, rtol=0)


def test_two_objects_keep_their_numbers_both_ways(tracker):
    assert isinstance(tracker, Tracker)
    frames, masks = pocket(6)
    seeds = [
        Seed(LEFT, 1, box=box_of(masks[LEFT][1])),
        Seed(RIGHT, 3, box=box_of(masks[RIGHT][3])),
    ]
    for reverse in (False, True):
        planes = tracker.track(frames, seeds, reverse=reverse)
        assert list(planes) == [LEFT, RIGHT]
        for number, seeded in ((LEFT, 1), (RIGHT, 3)):
            plane = planes[number]
            assert plane.shape == (6, SIZE, SIZE)
            assert plane.dtype == torch.float32
            assert 0 <= plane.min() <= plane.max() <= 1
            seen = plane.amax((1, 2)) > 0
            at = torch.arange(6)
            assert torch.equal(seen, at <= seeded if reverse else at >= seeded)


def test_an_object_is_followed_the_same_beside_another_as_alone(tracker):
    frames, masks = pocket(4)
    together = tracker.track(frames, seeds_of(masks, 0))
    alone = tracker.track(frames, seeds_of(masks, 0)[1:])
    torch.testing.assert_close(together[RIGHT], alone[RIGHT], atol=1e-5, rtol=0)
    again = tracker.track(frames, seeds_of(masks, 0))
    assert all(torch.equal(together[number], again[number]) for number in (LEFT, RIGHT))


def test_a_seeds_mask_is_the_answer_on_its_frame(tracker):
    frames, _ = pocket(3)
    square = torch.zeros(SIZE, SIZE)
    square[16:32, 8:40] = 1  # on the model's grid of 4 pixels
    for reverse in (False, True):
        planes = tracker.track(frames, [Seed(LEFT, 1, mask=square)], reverse=reverse)
        assert same(planes[LEFT][1], square)
    both = Seed(LEFT, 1, mask=square, box=box(0, 0, 5, 5))
    assert torch.equal(tracker.track(frames, [both])[LEFT], planes_of(tracker, frames, square))


def planes_of(tracker, frames, mask):
    return tracker.track(frames, [Seed(LEFT, 1, mask=mask)])[LEFT]


def test_a_later_seed_corrects_its_object(tracker):
    frames, _ = pocket(4)
    first, later = torch.zeros(2, SIZE, SIZE)
    first[:16, :16] = later[32:, 32:] = 1
    plane = tracker.track(frames, [Seed(LEFT, 0, mask=first), Seed(LEFT, 2, mask=later)])[LEFT]
    assert same(plane[0], first)
    assert same(plane[2], later)


def test_known_logits_come_back_at_their_number_and_frame(tracker, monkeypatch):
    def known(session, frame_idx):
        # Object 7 moves down a cell a frame; 2 is gone, as the model says it: -1024 everywhere.
        logits = torch.full((2, 1, 16, 16), -1024.0)
        logits[0] = -10
        logits[0, 0, 2 + frame_idx : 6 + frame_idx, 4:8] = 10
        return SimpleNamespace(object_ids=[7, 2], pred_masks=logits)

    monkeypatch.setattr(tracker.model, "forward", known)
    frames = torch.zeros(4, 160, 320, 3, dtype=torch.uint8)
    corner = box(10, 10, 90, 90)
    planes = tracker.track(frames, [Seed(7, 1, box=corner), Seed(2, 1, box=corner)])
    for at in (1, 2, 3):
        expected = torch.zeros(160, 320)
        expected[10 * (2 + at) : 10 * (6 + at), 80:160] = 1
        assert same(planes[7][at], expected)
    assert planes[7][0].max() == 0
    assert planes[2].max() == 0


def test_nothing_is_kept_that_no_later_frame_looks_at(tracker, monkeypatch):
    opened = []
    real = sam2_video.open_session
    monkeypatch.setattr(
        sam2_video, "open_session", lambda *given: opened.append(real(*given)) or opened[0]
    )
    frames, masks = pocket(20)
    tracker.track(frames, seeds_of(masks, 0))
    for outputs in opened[0].output_dict_per_obj.values():
        assert list(outputs["cond_frame_outputs"]) == [0]
        assert min(outputs["non_cond_frame_outputs"]) == 20 - 16
        kept = [
            *outputs["cond_frame_outputs"].values(),
            *outputs["non_cond_frame_outputs"].values(),
        ]
        assert not any("high_res_masks" in each for each in kept)


def test_no_seeds_no_planes_and_a_wrong_seed_is_named(tracker):
    frames, _ = pocket(3)
    assert tracker.track(frames, []) == {}
    with pytest.raises(ValueError, match="seed 5 lies on frame 3, the window has 3"):
        tracker.track(frames, [Seed(5, 3, box=box(0, 0, 9, 9))])
    with pytest.raises(ValueError, match="seed 5 on frame 1 has neither box nor mask"):
        tracker.track(frames, [Seed(5, 1)], reverse=True)


def test_half_precision_answers_in_float32(folder):
    frames, masks = pocket(3)
    half = BACKEND.load(ModelSource(path=str(folder), dtype=torch.bfloat16))
    planes = half.track(frames, seeds_of(masks, 0))
    assert all(
        plane.dtype == torch.float32 and torch.isfinite(plane).all() for plane in planes.values()
    )
