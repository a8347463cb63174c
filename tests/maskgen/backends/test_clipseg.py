"""CLIPSeg: real loading of a tiny build, and masks from logits that are known."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tests.maskgen.tiny import grounding
from torch import Tensor

from frisket.maskgen.backends.clipseg import BACKEND, ClipSeg
from frisket.maskgen.base import BackendUnusable, Grounder, MaskWeightsNotFound, ModelSource
from frisket.maskgen.vision.preprocess import enlarge

PHOTO = Path(__file__).parents[3] / "examples/photos/clips/astronaut.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grounding.clipseg(tmp_path_factory.mktemp("clipseg"))


@pytest.fixture
def clipseg(folder: Path) -> ClipSeg:
    return BACKEND.load(ModelSource(path=str(folder)))


@pytest.fixture(scope="module")
def astronaut() -> Tensor:
    return torch.from_numpy(np.array(Image.open(PHOTO).convert("RGB")))


def deciding(clipseg: ClipSeg, monkeypatch: pytest.MonkeyPatch, logits: Tensor) -> None:
    answer = SimpleNamespace(logits=logits)
    monkeypatch.setattr(clipseg.model.decoder, "forward", lambda *_: answer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_build_loads_and_gives_soft_masks_at_the_picture_s_size(
    folder, astronaut, dtype, monkeypatch
) -> None:
    clipseg = BACKEND.load(ModelSource(path=str(folder), dtype=dtype))
    assert isinstance(clipseg, Grounder)
    assert clipseg.threshold == BACKEND.thresholds["threshold"] == 0.4
    pictures, phrases = [astronaut, astronaut[:300]], [["face", "red hair"], ["hair"]]
    found = clipseg.ground(pictures, phrases)
    again = clipseg.ground(pictures, phrases)
    for picture, asked, segments, same in zip(pictures, phrases, found, again, strict=True):
        assert [segment.phrase for segment in segments] == asked
        for segment, other in zip(segments, same, strict=True):
            assert segment.mask.shape == picture.shape[:2]
            assert segment.mask.dtype == torch.float32
            assert not segment.mask.is_inference()  # others write into it
            assert 0 <= segment.mask.min() <= segment.mask.max() <= 1
            assert 0.4 < segment.score <= 1
            assert torch.equal(segment.mask, other.mask)


def test_masks_are_those_of_the_model_s_own_forward(clipseg, astronaut) -> None:
    clipseg.threshold = 0.5  # where the mask is the plain sigmoid
    phrases = ["face", "the astronaut", "hair"]
    inputs = clipseg.processor(
        text=phrases, images=[astronaut.numpy()] * 3, padding=True, return_tensors="pt"
    )
    expected = enlarge(clipseg.model(**inputs).logits, 512, 512).sigmoid()
    for picked in (slice(0, 3), slice(1, 2)):
        (found,) = clipseg.ground([astronaut], [phrases[picked]])
        torch.testing.assert_close(
            torch.stack([one.mask for one in found]), expected[picked], rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("squeezed", [False, True])
def test_the_threshold_becomes_one_half(clipseg, astronaut, monkeypatch, squeezed) -> None:
    probabilities = torch.full((1, 32, 32), 0.1)
    probabilities[:, :16, 16:] = 0.45  # above 0.4, below one half
    probabilities[:, :8, 24:] = 0.9
    logits = probabilities.logit()
    deciding(clipseg, monkeypatch, logits[0] if squeezed else logits)
    ((segment,),) = clipseg.ground([astronaut[:300]], [["face"]])
    inside = segment.mask > 0.5
    assert inside[:140, 270:].all()  # half a cell of 9 x 16 pixels is blurred at the border
    assert not inside[160:].any()
    assert not inside[:, :240].any()
    assert segment.score == pytest.approx(0.75 * 0.45 + 0.25 * 0.9, abs=0.01)
    clipseg.threshold = 0.95
    assert clipseg.ground([astronaut], [["face"]]) == [[]]


def test_only_phrases_that_are_found_are_answered(clipseg, astronaut, monkeypatch) -> None:
    deciding(clipseg, monkeypatch, torch.stack([torch.full((8, 8), x) for x in (-3.0, 3.0)]))
    (found,) = clipseg.ground([astronaut], [["face", "hair"]])
    assert [segment.phrase for segment in found] == ["hair"]
    assert found[0].score == pytest.approx(torch.tensor(3.0).sigmoid().item())


def test_pictures_with_nothing_asked_get_nothing(clipseg, astronaut) -> None:
    assert clipseg.ground([astronaut], [[]]) == [[]]
    assert clipseg.ground([], []) == []
    none, some = clipseg.ground([astronaut, astronaut], [[], ["face"]])
    assert (none, len(some)) == ([], 1)


@pytest.mark.parametrize(("phrase", "said"), [("", "nothing"), ("hair " * 40, "reads 75")])
def test_a_phrase_that_cannot_be_read_is_refused(clipseg, astronaut, phrase, said) -> None:
    with pytest.raises(BackendUnusable, match=said):
        clipseg.ground([astronaut], [["face", phrase]])


def test_wrong_folders_say_what_they_lack(tmp_path) -> None:
    with pytest.raises(MaskWeightsNotFound, match="no such folder"):
        BACKEND.load(ModelSource(path=str(tmp_path / "nowhere")))
    other = grounding.clipseg(tmp_path)
    (other / "model.safetensors").unlink()
    with pytest.raises(
        MaskWeightsNotFound, match=r"lacks model.safetensors \(it holds config.json"
    ):
        BACKEND.load(ModelSource(path=str(other)))


def test_pictures_are_prepared_by_pillow(folder, clipseg, astronaut) -> None:
    processor = transformers.AutoProcessor.from_pretrained(folder)
    assert type(processor.image_processor).__name__ == "ViTImageProcessorPil"
    assert type(processor.image_processor) is type(clipseg.processor.image_processor)
    image = Image.fromarray(astronaut.numpy())
    told = clipseg.processor.image_processor(image)["pixel_values"][0]
    small = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR)) / 255
    mine = (small - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(told, mine.transpose(2, 0, 1), atol=1e-5)
