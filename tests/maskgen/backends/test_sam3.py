"""SAM 3 on pictures: a tiny build through the real path, and the stock processor's answers."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.maskgen.tiny import sam

from frisket.maskgen.backends.sam3 import BACKEND
from frisket.maskgen.base import BackendUnusable, Detector, Grounder, ModelSource
from frisket.maskgen.vision.preprocess import pixels
from frisket.media.frames import decode

PHOTO = Path(__file__).parents[3] / "examples/photos/clips/astronaut.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sam.sam3(tmp_path_factory.mktemp("sam3"))


@pytest.fixture
def sam3(folder):
    return BACKEND.load(ModelSource(path=str(folder)))


@pytest.fixture(scope="module")
def photo():
    return decode(PHOTO)[0]


@pytest.fixture(scope="module")
def stock():
    with np.load(Path(__file__).parents[1] / "fixtures/processors.npz") as recorded:
        return {
            name.removeprefix("sam3/"): torch.from_numpy(recorded[name])
            for name in recorded
            if name.startswith("sam3/")
        }


def test_instances_lie_in_their_picture_and_carry_their_phrase(sam3, photo):
    assert isinstance(sam3, Grounder)
    assert isinstance(sam3, Detector)
    crop, phrases = photo[:100, :90], [["face", "red hair"], [], ["flag"]]
    found = sam3.ground([photo, photo, crop], phrases)
    order = [segment.phrase for segment in found[0]]
    assert order == sorted(order)  # phrase by phrase, as they were asked
    assert set(order) == {"face", "red hair"}
    assert found[1] == []
    for picture, segments in ((photo, found[0]), (crop, found[2])):
        high, wide, _ = picture.shape
        for segment in segments:
            assert segment.mask.shape == (high, wide)
            assert segment.mask.dtype == torch.float32
            assert 0 <= segment.mask.min() <= segment.mask.max() <= 1
            assert 0.5 < segment.score <= 1
            assert segment.box == segment.box.within(high, wide)
            assert (segment.box.phrase, segment.box.score) == (segment.phrase, segment.score)


def test_the_detector_finds_the_boxes_of_the_grounder(sam3, photo):
    phrases = [["face", "red hair"], ["flag"]]
    grounded = sam3.ground([photo, photo], phrases)
    boxes = sam3.detect([photo, photo], phrases)
    assert boxes == [[segment.box for segment in segments] for segments in grounded]


def test_features_shared_by_phrases_answer_what_one_whole_forward_answers(sam3, photo, monkeypatch):
    monkeypatch.setattr(sam3, "score", 0.0)
    phrases = ["face", "red hair"]
    found = sam3.ground([photo], [phrases])[0]
    for at, phrase in enumerate(phrases):
        text = sam3.tokenizer(phrase, return_tensors="pt", padding="max_length", max_length=32)
        with torch.no_grad():
            told = sam3.model(pixel_values=pixels(photo, sam3.how), **text)
        scores = told.pred_logits[0].sigmoid() * told.presence_logits[0].sigmoid()
        queries = len(scores)
        ours = [segment.score for segment in found[at * queries : (at + 1) * queries]]
        torch.testing.assert_close(torch.tensor(ours), scores)


def test_the_same_again_from_the_same_folder(folder, sam3, photo):
    again = BACKEND.load(ModelSource(path=str(folder)))
    one, other = (each.ground([photo], [["face"]])[0] for each in (sam3, again))
    assert one
    assert [segment.score for segment in one] == [segment.score for segment in other]
    assert all(torch.equal(a.mask, b.mask) for a, b in zip(one, other, strict=True))


def test_known_answers_are_decoded_as_the_stock_processor_decodes_them(sam3, stock, monkeypatch):
    told = SimpleNamespace(
        **{
            name.removeprefix("told/"): value
            for name, value in stock.items()
            if name.startswith("told/")
        }
    )
    monkeypatch.setattr(sam3.model, "forward", lambda **_: told)
    picture = torch.zeros(37, 53, 3, dtype=torch.uint8)
    found = sam3.ground([picture], [["face"]])[0]

    edges = [[each.box.left, each.box.top, each.box.right, each.box.bottom] for each in found]
    torch.testing.assert_close(torch.tensor([each.score for each in found]), stock["found/scores"])
    torch.testing.assert_close(torch.tensor(edges), stock["found/boxes"])
    masks = torch.stack([each.mask for each in found])
    assert torch.equal((masks > 0.5).long(), stock["found/masks"])


def test_what_is_not_there_gives_nothing(sam3, photo, monkeypatch):
    sam3.model.detr_decoder.presence_head.layer3.bias.data.fill_(-10)
    assert sam3.ground([photo], [["face", "hair"]]) == [[]]
    assert sam3.detect([photo], [["face", "hair"]]) == [[]]
    assert sam3.ground([], []) == []


def test_a_picture_is_read_once_and_a_phrase_once(sam3, photo, monkeypatch):
    calls = {"get_vision_features": 0, "get_text_features": 0}

    def counted(name, real):
        def call(*given, **named):
            calls[name] += 1
            return real(*given, **named)

        return call

    for name in calls:
        monkeypatch.setattr(sam3.model, name, counted(name, getattr(sam3.model, name)))
    sam3.ground([photo, photo, photo], [["face", "hair"], ["hair", "face"], []])
    assert calls == {"get_vision_features": 2, "get_text_features": 2}


@pytest.mark.parametrize(
    ("phrase", "why"),
    [("", "nothing to look for"), ("  ", "nothing to look for"), ("x" * 31, "31")],
)
def test_a_phrase_that_cannot_be_read_is_named_before_any_model_runs(
    sam3, photo, phrase, why, monkeypatch
):
    monkeypatch.setattr(sam3.model, "get_vision_features", None)
    with pytest.raises(BackendUnusable, match=rf"phrase {phrase!r}.*{why}"):
        sam3.ground([photo], [["face", phrase]])


def test_a_phrase_that_just_fits_is_read(sam3, photo):
    assert {segment.phrase for segment in sam3.ground([photo], [["x" * 30]])[0]} <= {"x" * 30}


def test_half_precision_answers_in_float32(folder, photo):
    half = BACKEND.load(ModelSource(path=str(folder), dtype=torch.bfloat16))
    segments = half.ground([photo], [["face"]])[0]
    assert segments
    assert all(segment.mask.dtype == torch.float32 for segment in segments)


def test_the_published_checkpoint_is_that_of_the_video_model(tmp_path, photo):
    sam.sam3_video(tmp_path)
    loaded = BACKEND.load(ModelSource(path=str(tmp_path)))
    assert len(loaded.ground([photo], [["face"]])) == 1


def test_its_licence_is_told_before_use():
    assert "SAM License" in BACKEND.licence.warning
