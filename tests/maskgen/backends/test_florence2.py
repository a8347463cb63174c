"""Florence-2: real loading of a tiny build, and boxes from answers that are known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.maskgen.tiny import grounding
from torch import Tensor

from frisket.maskgen.backends.florence2 import BACKEND, Florence2, read
from frisket.maskgen.base import (
    BackendUnusable,
    Box,
    Captioner,
    Detector,
    MaskWeightsNotFound,
    ModelSource,
)

PHOTO = Path(__file__).parents[3] / "examples/photos/clips/astronaut.jpg"
WOMAN = "a woman<loc_50><loc_10><loc_900><loc_999>"
SUIT = "an orange suit<loc_100><loc_400><loc_800><loc_990><loc_0><loc_0><loc_99><loc_99>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grounding.florence2(tmp_path_factory.mktemp("florence2"))


@pytest.fixture
def florence(folder: Path) -> Florence2:
    loaded = BACKEND.load(ModelSource(path=str(folder)))
    loaded.longest = 12
    return loaded


@pytest.fixture(scope="module")
def astronaut() -> Tensor:
    return torch.from_numpy(np.array(Image.open(PHOTO).convert("RGB")))


def writing(
    florence: Florence2, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]
) -> list[list[str]]:
    """Answers by the word a prompt ends with; returns the prompts of each call."""
    tokenizer, calls = florence.processor.tokenizer, []

    def generate(**inputs: Tensor) -> Tensor:
        prompts = tokenizer.batch_decode(inputs["input_ids"], skip_special_tokens=True)
        calls.append(prompts)
        written = [
            next(answer for end, answer in answers.items() if prompt.strip(" .").endswith(end))
            for prompt in prompts
        ]
        return tokenizer(
            [f"</s><s>{text}</s>" for text in written],
            add_special_tokens=False,
            padding=True,
            return_tensors="pt",
        )["input_ids"]

    monkeypatch.setattr(florence.model, "generate", generate)
    return calls


def corners(box: Box) -> list[float]:
    return [box.left, box.top, box.right, box.bottom]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_build_loads_and_answers(folder, astronaut, dtype, monkeypatch) -> None:
    # Sizes are checked within one picture, not across a list: `RgbPicture` names its axes.
    florence = BACKEND.load(ModelSource(path=str(folder), dtype=dtype))
    assert isinstance(florence, Detector)
    assert isinstance(florence, Captioner)
    florence.longest = 12
    pictures = [astronaut, astronaut[:300]]
    boxes = florence.detect(pictures, [["face", "hair"], []])
    captions = florence.caption(pictures)
    assert [type(each) for each in boxes] == [list, list]
    assert [type(each) for each in captions] == [str, str]
    assert (boxes, captions) == (
        florence.detect(pictures, [["face", "hair"], []]),
        florence.caption(pictures),
    )


def test_a_batch_answers_as_each_alone(florence, astronaut, monkeypatch) -> None:
    # Sizes are checked within one picture, not across a list: `RgbPicture` names its axes.
    pictures = [astronaut, astronaut[:300], astronaut[:, 200:]]
    prompts = ["<CAPTION>", "<OPEN_VOCABULARY_DETECTION>hair", "<OPEN_VOCABULARY_DETECTION>a face"]
    alone = florence._ask_batches(pictures, prompts, 1)
    for batch in (2, 3):
        together = [
            each.replace("<pad>", "") for each in florence._ask_batches(pictures, prompts, batch)
        ]
        assert together == [each.replace("<pad>", "") for each in alone]


def test_each_phrase_is_asked_by_itself_and_named_as_asked(
    florence, astronaut, monkeypatch
) -> None:
    # Sizes are checked within one picture, not across a list: `RgbPicture` names its axes.
    calls = writing(florence, monkeypatch, {"Red Hat in the image": SUIT, "the image": ""})
    found = florence.detect([astronaut, astronaut[:250]], [["face", "Red Hat"], ["Red Hat"]])
    assert calls == [
        ["Locate face in the image.", "Locate Red Hat in the image."],
        ["Locate Red Hat in the image."],
    ]
    assert [[box.phrase for box in boxes] for boxes in found] == [["Red Hat"] * 2] * 2
    assert {box.score for boxes in found for box in boxes} == {None}
    assert corners(found[0][0]) == pytest.approx([51.456, 205.056, 409.856, 507.136])
    assert corners(found[1][0]) == pytest.approx([51.456, 100.125, 409.856, 247.625])


def test_a_phrase_can_be_grounded_as_a_caption(florence, astronaut, monkeypatch) -> None:
    calls = writing(florence, monkeypatch, {"hair": WOMAN})
    florence.finding = "<CAPTION_TO_PHRASE_GROUNDING>"
    ((box,),) = florence.detect([astronaut], [["<sks> hair"]])
    assert calls == [["Locate the phrases in the caption: hair"]]
    assert box.phrase == "<sks> hair"


def test_a_caption_is_plain_text(florence, astronaut, monkeypatch) -> None:
    calls = writing(florence, monkeypatch, {"?": "A woman in  an orange<loc_7> suit."})
    assert florence.caption([astronaut]) == ["A woman in an orange suit."]
    assert calls == [["What does the image describe?"]]


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("<CAPTION_TO_PHRASE_GROUNDING>", WOMAN + SUIT),
        ("<OPEN_VOCABULARY_DETECTION>", SUIT + WOMAN),
    ],
)
def test_boxes_are_the_stock_processor_s_to_a_pixel(florence, task, answer) -> None:
    said = f"</s><s>{answer}</s><pad>"
    stock = florence.processor.post_process_generation(said, task=task, image_size=(640, 480))
    boxes = read(said, 480, 640)
    labels = stock[task].get("labels", stock[task].get("bboxes_labels"))
    assert [box.phrase for box in boxes] == labels
    for box, other in zip(boxes, stock[task]["bboxes"], strict=True):
        np.testing.assert_allclose(corners(box), other, atol=1)


def test_outlines_give_the_box_around_them() -> None:
    one = "<poly><loc_100><loc_200><loc_300><loc_200><loc_200><loc_400></poly>"
    two = "<poly><loc_500><loc_500><loc_600><loc_500><sep><loc_700><loc_900><loc_1></poly>"
    first, second = read(f"<s>hair{one}{two}</s>", 1000, 1000)
    assert corners(first) == [100.5, 200.5, 300.5, 400.5]
    assert corners(second)[2:] == [700.5, 900.5]
    assert {first.phrase, second.phrase} == {"hair"}


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        ("", 0),
        ("</s><s></s>", 0),
        ("nothing here", 0),
        ("<loc_1><loc_2><loc_3><loc_4>", 0),  # of no phrase
        ("hat<loc_1><loc_2><loc_3>", 0),  # cut off
        ("hat<poly><loc_1></poly>", 0),
        ("hat<loc_5><loc_5><loc_5><loc_5>", 0),  # no area
        ("hat<loc_900><loc_800><loc_100><loc_200>", 1),  # the wrong way round
        ("loc_663>hat<loc_1><loc_2><loc_300><loc_400><loc_5>", 1),
    ],
)
def test_answers_out_of_form_give_no_box_out_of_form(answer, count) -> None:
    boxes = read(answer, 512, 512)
    assert len(boxes) == count
    assert all(box.left < box.right and box.top < box.bottom for box in boxes)


BINS = st.tuples(*[st.integers(0, 999)] * 4).filter(lambda b: b[2] > b[0] + 9 and b[3] > b[1] + 9)


@given(
    said=st.lists(st.tuples(st.sampled_from(["hair", "ein Köpfchen", "日本"]), BINS), max_size=5),
    high=st.integers(200, 2000),
    wide=st.integers(200, 2000),
)
def test_boxes_survive_being_written(said, high, wide) -> None:
    answer = "".join(name + "".join(f"<loc_{at}>" for at in bins) for name, bins in said)
    boxes = read(f"</s><s>{answer}</s>", high, wide)
    assert [box.phrase for box in boxes] == [name for name, _ in said]
    for box, (_, bins) in zip(boxes, said, strict=True):
        scale = np.array([wide, high, wide, high]) / 1000
        np.testing.assert_allclose(corners(box), (np.array(bins) + 0.5) * scale)


def test_what_cannot_be_asked_is_refused(florence, astronaut) -> None:
    for phrase in ("", "<loc_3>"):
        with pytest.raises(BackendUnusable, match="names nothing"):
            florence.detect([astronaut], [["face", phrase]])
    with pytest.raises(BackendUnusable, match=r"reads 192 tokens with the picture.*hair hair"):
        florence.detect([astronaut], [["hair " * 50]])


def test_a_checkpoint_with_its_own_code_names_the_conversion(tmp_path) -> None:
    folder = grounding.florence2(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "configuration_florence2.Florence2Config"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(MaskWeightsNotFound, match="florence-community/Florence-2-large"):
        BACKEND.load(ModelSource(path=str(folder)))
    (folder / "config.json").write_text('{"model_type": "bart"}')
    with pytest.raises(MaskWeightsNotFound, match="type bart, not florence2"):
        BACKEND.load(ModelSource(path=str(folder)))
    (folder / "config.json").write_text("{")
    with pytest.raises(MaskWeightsNotFound, match="fetch it again"):
        BACKEND.load(ModelSource(path=str(folder)))


def test_pictures_are_prepared_by_pillow(folder, florence) -> None:
    processor = transformers.AutoProcessor.from_pretrained(folder)
    assert type(processor.image_processor).__name__ == "CLIPImageProcessorPil"
    assert type(processor.image_processor) is type(florence.processor.image_processor)
