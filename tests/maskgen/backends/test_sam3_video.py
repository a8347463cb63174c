"""SAM 3 on video: a tiny build through the real path, and the stock processor's answers."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.maskgen.tiny import sam

from frisket.maskgen.backends.sam3_video import BACKEND
from frisket.maskgen.base import BackendUnusable, ModelSource, VideoGrounder
from frisket.media.frames import decode

PHOTO = Path(__file__).parents[3] / "examples/photos/clips/astronaut.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sam.sam3_video(tmp_path_factory.mktemp("sam3_video"))


@pytest.fixture
def follower(folder):
    return BACKEND.load(ModelSource(path=str(folder)))


@pytest.fixture(scope="module")
def frames():
    photo = decode(PHOTO)[0]
    return torch.stack([photo[20 + at : 140 + at, 150 + at : 310 + at] for at in range(0, 20, 5)])


@pytest.fixture(scope="module")
def stock():
    with np.load(Path(__file__).parents[1] / "fixtures/processors.npz") as recorded:
        return {
            name.removeprefix("sam3_video/"): torch.from_numpy(recorded[name])
            for name in recorded
            if name.startswith("sam3_video/")
        }


def test_tracks_keep_number_and_phrase_through_the_window(follower, frames):
    assert isinstance(follower, VideoGrounder)
    tracks = follower.follow(frames, ["face", "hair"])
    assert [track.number for track in tracks] == list(range(1, len(tracks) + 1))
    assert {track.phrase for track in tracks} == {"face", "hair"}
    for track in tracks:
        assert track.plane.shape == frames.shape[:3]
        assert track.plane.dtype == torch.float32
        assert 0 <= track.plane.min() <= track.plane.max() <= 1
        assert len(track.scores) == len(frames)
        for score, mask in zip(track.scores, track.plane, strict=True):
            assert score is None or 0 <= score <= 1
            assert mask.max() == 0 if score is None else True
    assert any(track.scores.count(None) < len(frames) - 1 for track in tracks)  # truly followed


def test_the_same_again_from_the_same_folder(folder, follower, frames):
    again = BACKEND.load(ModelSource(path=str(folder)))
    one, other = (each.follow(frames[:2], ["face"]) for each in (follower, again))
    assert [track.scores for track in one] == [track.scores for track in other]
    assert all(torch.equal(a.plane, b.plane) for a, b in zip(one, other, strict=True))


def test_known_answers_are_settled_as_the_stock_processor_settles_them(
    follower, stock, monkeypatch
):
    # 0 and 1 are of one phrase and overlap; 2 is of another; 3 is empty; 4 and 5 are hidden.
    logits = [stock["logits"][min(number, 3)][None] for number in range(6)]
    told = SimpleNamespace(
        obj_id_to_mask=dict(enumerate(logits)),
        obj_id_to_score={number: 0.9 - number / 10 for number in range(6)},
        obj_id_to_tracker_score={0: 0.4, 1: 0.8, 2: 0.3, 3: 0.9, 4: 0.9, 5: 0.9},
        suppressed_obj_ids={5},
    )

    def known(session):
        session.hotstart_removed_obj_ids.add(4)
        session.obj_id_to_prompt_id.update({0: 0, 1: 0, 2: 1, 3: 1, 4: 0, 5: 0})
        for at in (0, 2):
            yield SimpleNamespace(frame_idx=at, **vars(told))

    monkeypatch.setattr(follower.model, "propagate_in_video_iterator", known)
    clip = torch.zeros(3, 37, 53, 3, dtype=torch.uint8)
    tracks = follower.follow(clip, ["face", "hair"])

    assert stock["numbers"].tolist() == [0, 1, 2]
    assert [(track.number, track.phrase) for track in tracks] == [
        (1, "face"),
        (2, "face"),
        (3, "hair"),
    ]
    for track, mask in zip(tracks, stock["masks"], strict=True):
        assert torch.equal(track.plane[0] > 0.5, mask)
        assert torch.equal(track.plane[2] > 0.5, mask)
        assert track.plane[1].max() == 0
    assert [track.scores for track in tracks] == [
        pytest.approx((score, None, score)) for score in (0.9, 0.8, 0.7)
    ]


def test_one_thing_seen_by_many_queries_is_one_track(follower, frames, monkeypatch):
    # All queries of the detector answer the same square; transformers alone would keep them all.
    detector = follower.model.detector_model
    real = detector.forward

    def doubled(**given):
        told = real(**given)
        told.pred_masks[:] = -10
        told.pred_masks[:, :, 4:12, 4:12] = 10
        return told

    monkeypatch.setattr(detector, "forward", doubled)
    tracks = follower.follow(frames[:1], ["face", "hair"])
    assert [track.phrase for track in tracks] == ["face", "hair"]
    assert all((track.plane[0] > 0.5).sum() == (tracks[0].plane[0] > 0.5).sum() for track in tracks)


def test_small_holes_are_filled_without_native_code_from_the_hub(follower):
    from transformers.models.sam3_video.modeling_sam3_video import fill_holes_in_mask_scores

    logits = torch.full((2, 1, 15, 15), -5.0)
    logits[:, :, 2:13, 2:13] = 5
    logits[0, 0, 6, 6] = -5  # a hole of 1
    logits[1, 0, 3:9, 3:9] = -5  # a hole of 36
    logits[1, 0, 14, 14] = 5  # a speck
    filled = fill_holes_in_mask_scores(logits.clone(), max_area=16) > 0
    wanted = logits > 0
    wanted[0, 0, 6, 6], wanted[1, 0, 14, 14] = True, False
    assert torch.equal(filled, wanted)


def test_nothing_asked_or_nothing_there_gives_nothing(follower, frames):
    assert follower.follow(frames, []) == []
    follower.model.score_threshold_detection = 0.999
    assert follower.follow(frames[:2], ["face"]) == []


def test_a_phrase_that_cannot_be_read_is_named(follower, frames):
    with pytest.raises(BackendUnusable, match=r"phrase 'x{40}' is 40 tokens long.*reads 30"):
        follower.follow(frames, ["face", "x" * 40])


def test_half_precision_answers_in_float32(folder, frames):
    half = BACKEND.load(ModelSource(path=str(folder), dtype=torch.bfloat16))
    tracks = half.follow(frames[:2], ["face"])
    assert tracks
    assert all(track.plane.dtype == torch.float32 for track in tracks)
