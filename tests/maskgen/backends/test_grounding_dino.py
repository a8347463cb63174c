"""GroundingDINO: real loading of tiny builds, and decoding of logits that are known."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.maskgen.tiny import grounding
from torch import Tensor

from frisket.maskgen.backends.grounding_dino import BACKEND, GroundingDino, pack_phrases
from frisket.maskgen.base import BackendUnusable, Box, Detector, MaskWeightsNotFound, ModelSource

PHOTO = Path(__file__).parents[3] / "examples/photos/clips/astronaut.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grounding.grounding_dino(tmp_path_factory.mktemp("grounding_dino"))


@pytest.fixture
def dino(folder: Path) -> GroundingDino:
    return BACKEND.load(ModelSource(path=str(folder)))


@pytest.fixture(scope="module")
def astronaut() -> Tensor:
    return torch.from_numpy(np.array(Image.open(PHOTO).convert("RGB")))


def answering(
    dino: GroundingDino,
    monkeypatch: pytest.MonkeyPatch,
    *answers: list[tuple[tuple[float, float, float, float], dict[int, float]]],
) -> list[list[int]]:
    """Forwards that answer queries (x, y, w, h) with a probability a token; the texts they read."""
    texts: list[list[int]] = []

    def forward(**inputs: Tensor) -> SimpleNamespace:
        queries = answers[len(texts)]
        texts.append(inputs["input_ids"][0].tolist())
        logits = torch.full((1, len(queries), 256), float("-inf"))
        for at, (_, tokens) in enumerate(queries):
            for token, probability in tokens.items():
                logits[0, at, token] = torch.tensor(probability).logit()
        boxes = torch.tensor([box for box, _ in queries]).reshape(1, len(queries), 4)
        return SimpleNamespace(logits=logits, pred_boxes=boxes)

    monkeypatch.setattr(dino.model, "forward", forward)
    return texts


def corners(box: Box) -> tuple[float, ...]:
    return box.left, box.top, box.right, box.bottom


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("build", [grounding.grounding_dino, grounding.mm_grounding_dino])
def test_saved_builds_load_and_look_at_pictures_of_any_size(
    build, dtype, tmp_path, astronaut, monkeypatch
) -> None:
    # Sizes are checked within one picture, not across a list: `RgbPicture` names its axes.
    dino = BACKEND.load(ModelSource(path=str(build(tmp_path)), dtype=dtype))
    assert isinstance(dino, Detector)
    assert (dino.box, dino.text) == (BACKEND.thresholds["box"], BACKEND.thresholds["text"])
    dino.box = dino.text = 0.0
    pictures, phrases = [astronaut, astronaut[:300]], [["face", "a red jacket"], ["hair"]]
    found = dino.detect(pictures, phrases)
    assert found == dino.detect(pictures, phrases)
    for picture, asked, boxes in zip(pictures, phrases, found, strict=True):
        high, wide, _ = picture.shape
        assert {box.phrase for box in boxes} == set(asked)
        for box in boxes:
            assert 0 <= box.left < box.right <= wide
            assert 0 <= box.top < box.bottom <= high
            assert 0 < box.score <= 1


def test_the_text_is_the_one_the_stock_processor_writes(dino) -> None:
    phrases = ["A Cat", "red jacket", "flag"]
    stock = dino.processor(text=[phrases], return_tensors="pt")["input_ids"][0].tolist()
    (text,) = pack_phrases(dino.processor.tokenizer, phrases, 256)
    assert text.tokens == stock
    assert text.spans == {"A Cat": range(1, 3), "red jacket": range(4, 6), "flag": range(7, 8)}


def test_boxes_are_cut_at_the_threshold_and_named_as_asked(dino, astronaut, monkeypatch) -> None:
    # [CLS] a red jacket . face . [SEP]
    answering(
        dino,
        monkeypatch,
        [
            ((0.5, 0.5, 0.5, 0.5), {2: 0.1, 3: 0.9}),  # one token of a phrase is enough
            ((0.25, 0.5, 0.25, 0.5), {5: 0.36}),
            ((0.75, 0.5, 0.25, 0.5), {5: 0.34}),  # below the threshold
            ((0.5, 0.5, 0.9, 0.9), {0: 0.99, 4: 0.99, 6: 0.99}),  # full stops name nothing
            ((0.95, 0.9, 0.2, 0.4), {5: 0.8, 3: 0.3}),  # hangs out of the picture
            ((0.5, 0.5, 0.001, 0.001), {5: 0.9}),  # less than a pixel
        ],
    )
    (boxes,) = dino.detect([astronaut[:300]], [["A red Jacket", "face"]])
    assert [box.phrase for box in boxes] == ["A red Jacket", "face", "face"]
    assert [round(box.score, 4) for box in boxes] == [0.9, 0.8, 0.36]
    assert corners(boxes[0]) == (128, 75, 384, 225)
    assert corners(boxes[1]) == pytest.approx((435.2, 210, 512, 300))
    assert corners(boxes[2]) == (64, 75, 192, 225)


def test_one_thing_answers_to_two_phrases_and_to_each_once(dino, astronaut, monkeypatch) -> None:
    # [CLS] man . person . [SEP]
    answering(
        dino,
        monkeypatch,
        [
            ((0.5, 0.5, 0.5, 0.5), {1: 0.6, 3: 0.5}),
            ((0.51, 0.5, 0.5, 0.5), {1: 0.5, 3: 0.7}),
            ((0.1, 0.5, 0.1, 0.5), {3: 0.4}),
        ],
    )
    (boxes,) = dino.detect([astronaut], [["man", "person", "man"]])
    assert [(box.phrase, round(box.score, 2)) for box in boxes] == [
        ("man", 0.6),
        ("person", 0.7),
        ("person", 0.4),
    ]


def test_nothing_asked_or_nothing_found_is_no_box(dino, astronaut, monkeypatch) -> None:
    texts = answering(dino, monkeypatch, [], [((0.5, 0.5, 0.5, 0.5), {1: 0.2})])
    assert dino.detect([astronaut], [[]]) == [[]]
    assert texts == []
    assert dino.detect([astronaut, astronaut], [["face"], ["face"]]) == [[], []]


def test_phrases_beyond_one_text_are_asked_in_another(dino, astronaut, monkeypatch) -> None:
    phrases = [f"{'z' * length} face" for length in range(1, 30)]  # 2 + ... + 30 tokens
    (first, second) = pack_phrases(dino.processor.tokenizer, phrases, 256)
    last = second.spans[phrases[-1]]
    texts = answering(
        dino,
        monkeypatch,
        [((0.25, 0.5, 0.5, 1.0), {1: 0.5})],
        [((0.75, 0.5, 0.5, 1.0), {last.stop - 1: 0.5})],
    )
    (boxes,) = dino.detect([astronaut], [phrases])
    assert texts == [first.tokens, second.tokens]
    assert [*first.spans, *second.spans] == phrases
    assert [(box.phrase, box.left) for box in boxes] == [(phrases[0], 0), (phrases[-1], 256)]


WORDS = st.lists(
    st.sampled_from(["face", "hair", "cat", "zz", "a9", "Z.z"]), min_size=1, max_size=9
)


@given(words=st.lists(WORDS, max_size=40), longest=st.integers(40, 90))
def test_packing_gives_every_phrase_tokens_of_its_own(words, longest) -> None:
    tokenizer = grounding._bert()
    phrases = [" ".join(each) for each in words]
    texts = pack_phrases(tokenizer, phrases, longest)
    assert [name for text in texts for name in text.spans] == list(dict.fromkeys(phrases))
    for text in texts:
        assert len(text.tokens) <= longest
        taken = [at for span in text.spans.values() for at in span]
        stops = [at for at, token in enumerate(text.tokens) if token == 1012]
        assert sorted([0, *taken, *stops, len(text.tokens) - 1]) == list(range(len(text.tokens)))
        for phrase, span in text.spans.items():
            read = tokenizer.decode(text.tokens[span.start : span.stop])
            assert read.split() == phrase.lower().replace(".", " ").split()


@pytest.mark.parametrize("phrase", ["", "  ", "...", "日本"])
def test_a_phrase_without_a_known_token_is_refused_by_name(dino, astronaut, phrase) -> None:
    with pytest.raises(BackendUnusable, match="English") as refused:
        dino.detect([astronaut], [["face", phrase]])
    assert repr(phrase) in str(refused.value)


def test_a_phrase_longer_than_the_text_is_refused(dino, astronaut) -> None:
    with pytest.raises(BackendUnusable, match=r"253 tokens of a phrase.*has 300"):
        dino.detect([astronaut], [["hair " * 300]])


def test_wrong_folders_say_what_they_lack(folder, tmp_path) -> None:
    with pytest.raises(MaskWeightsNotFound, match=r"lacks config.json, model.safetensors"):
        BACKEND.load(ModelSource(path=str(tmp_path)))
    with pytest.raises(MaskWeightsNotFound, match="type clipseg, not grounding-dino"):
        BACKEND.load(ModelSource(path=str(grounding.clipseg(tmp_path / "other"))))
    partial = grounding.grounding_dino(tmp_path / "partial")
    (partial / "processor_config.json").unlink()
    (partial / "tokenizer.json").unlink()
    with pytest.raises(
        MaskWeightsNotFound, match=r"lacks preprocessor_config.json, tokenizer.json"
    ):
        BACKEND.load(ModelSource(path=str(partial)))


def test_pictures_are_prepared_by_pillow(folder, dino, astronaut) -> None:
    processor = transformers.AutoProcessor.from_pretrained(folder)
    assert type(processor.image_processor) is type(dino.processor.image_processor)
    assert type(processor.image_processor).__name__ == "GroundingDinoImageProcessorPil"
    told = dino.processor.image_processor(Image.fromarray(astronaut[:300].numpy()))
    image = Image.fromarray(astronaut[:300].numpy()).resize((192, 112), Image.Resampling.BILINEAR)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    mine = ((np.asarray(image) / 255 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(told["pixel_values"][0], mine, atol=1e-5)
