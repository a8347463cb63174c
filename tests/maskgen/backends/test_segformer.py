"""SegFormer parsers of people and faces through the path a user takes."""

import json
from pathlib import Path

import pytest
import torch
from tests.maskgen.tiny import people
from torch import nn

from frisket.maskgen.backends.segformer import BACKEND
from frisket.maskgen.base import (
    BackendUnusable,
    MaskWeightsNotFound,
    ModelSource,
    Parser,
    RgbPicture,
)
from frisket.maskgen.vision.classes import get_grouping
from frisket.maskgen.vision.preprocess import Preprocessing, pixels
from frisket.media.frames import decode

PHOTOS = Path(__file__).parents[3] / "examples" / "photos" / "clips"
CELEBA = (  # config.json of jonathandinu/face-parsing
    *("background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear"),
    *("r_ear", "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people.segformer(tmp_path_factory.mktemp("segformer"))


@pytest.fixture(scope="module")
def photo() -> RgbPicture:
    return decode(PHOTOS / "astronaut.jpg")[0][::4, ::3].contiguous()


def test_a_photo_is_parsed_at_its_size(folder: Path, photo: RgbPicture) -> None:
    parser = BACKEND.load(ModelSource(path=str(folder)))
    assert isinstance(parser, Parser)
    assert parser.classes == people.ATR
    first, smaller = parser.parse([photo, photo[:90, :70]])
    assert first.shape == (18, *photo.shape[:2])
    torch.testing.assert_close(first.sum(0), torch.ones(photo.shape[:2]))
    assert smaller.shape == (18, 90, 70)


def test_it_agrees_with_the_stock_post_processing(folder: Path, photo: RgbPicture) -> None:
    from transformers import SegformerForSemanticSegmentation

    model = SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(pixels(photo, Preprocessing(64, 64))).logits
    whole = nn.functional.interpolate(logits, photo.shape[:2], mode="bilinear")[0]
    ours = BACKEND.load(ModelSource(path=str(folder))).parse([photo])[0]
    torch.testing.assert_close(ours, whole.softmax(0), atol=1e-6, rtol=1e-4)


def test_the_parts_of_a_face_are_face_and_its_neck_goes_where_it_is_asked(tmp_path: Path) -> None:
    parser = BACKEND.load(ModelSource(path=str(people.segformer(tmp_path, CELEBA))))
    person = get_grouping("person")
    regions = {name: person.region(name) for name in parser.classes}
    assert {name for name, region in regions.items() if region == "face"} == {
        *CELEBA[1:13],
        "ear_r",
    }
    assert regions["neck"] == regions["cloth"] == regions["hat"] == "body"
    assert get_grouping("person", neck="face").region("neck") == "face"
    assert get_grouping("parts").region("neck_l") == "clothes"


def test_a_size_written_as_one_number_is_read(tmp_path: Path) -> None:
    folder = people.segformer(tmp_path)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 96}), encoding="utf-8")
    assert BACKEND.load(ModelSource(path=str(folder))).how == Preprocessing(96, 96)


def test_a_model_of_streets_is_refused_by_its_class(tmp_path: Path) -> None:
    folder = people.segformer(tmp_path, ("road", "person", "car"))
    with pytest.raises(BackendUnusable, match=r"else than people .*'road'"):
        BACKEND.load(ModelSource(path=str(folder)))


def test_unnamed_classes_are_refused(tmp_path: Path) -> None:
    folder = people.segformer(tmp_path, [f"LABEL_{number}" for number in range(4)])
    with pytest.raises(MaskWeightsNotFound, match="none of its 4 classes"):
        BACKEND.load(ModelSource(path=str(folder)))


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    folder = people.sapiens2(tmp_path)
    with pytest.raises(MaskWeightsNotFound, match="sapiens2, not segformer"):
        BACKEND.load(ModelSource(path=str(folder)))
