"""Sapiens 1 and 2 through the path a user takes, and their decoding on known logits."""

import logging
from pathlib import Path

import pytest
import torch
from tests.maskgen.tiny import people
from torch import Tensor, nn

from frisket.maskgen.backends.sapiens import BACKEND, V1, V2, Sapiens
from frisket.maskgen.base import (
    BackendUnusable,
    MaskWeightsNotFound,
    ModelSource,
    Parser,
    RgbPicture,
)
from frisket.maskgen.vision.classes import get_grouping
from frisket.maskgen.vision.preprocess import Preprocessing
from frisket.media.frames import decode

PHOTO = Path(__file__).parents[3] / "examples/photos/clips/astronaut.jpg"


@pytest.fixture(scope="module")
def photo() -> RgbPicture:
    return decode(PHOTO)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people.sapiens2(tmp_path_factory.mktemp("sapiens2"))


class RedIsHair(nn.Module):
    """Red pixels are class 3 (hair in version 1), the rest background; logits at a quarter."""

    def forward(self, pixels: Tensor) -> Tensor:
        logits = pixels.new_zeros(pixels.shape[0], 28, pixels.shape[2] // 4, pixels.shape[3] // 4)
        red = nn.functional.avg_pool2d(pixels[:, 0] - pixels[:, 1], 4)
        logits[:, 3] = 20 * (red - 1)
        return logits


def test_a_sapiens2_folder_parses_a_photo(folder: Path, photo: RgbPicture) -> None:
    parser = BACKEND.load(ModelSource(path=str(folder)))
    assert isinstance(parser, Parser)
    assert parser.classes == V2
    first, again, smaller = parser.parse([photo, photo, photo[:90, :70]])
    assert first.shape == (29, *photo.shape[:2])
    torch.testing.assert_close(first.sum(0), torch.ones(photo.shape[:2]))
    assert torch.equal(first, again)
    assert smaller.shape == (29, 90, 70)


def test_it_agrees_with_the_stock_model_and_post_processing(
    folder: Path, photo: RgbPicture
) -> None:
    from transformers import Sapiens2ForSemanticSegmentation

    from frisket.maskgen.vision.preprocess import pixels

    model = Sapiens2ForSemanticSegmentation.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(pixels(photo, Preprocessing(64, 48))).logits
    whole = nn.functional.interpolate(logits, photo.shape[:2], mode="bilinear")[0]
    ours = BACKEND.load(ModelSource(path=str(folder))).parse([photo])[0]
    torch.testing.assert_close(ours, whole.softmax(0), atol=1e-6, rtol=1e-4)
    assert float((ours.argmax(0) == whole.argmax(0)).float().mean()) > 0.9999


def test_bfloat16_weights_answer_in_float32(folder: Path, photo: RgbPicture) -> None:
    parser = BACKEND.load(ModelSource(path=str(folder), dtype=torch.bfloat16))
    assert parser.parse([photo])[0].dtype == torch.float32


def test_classes_are_those_the_checkpoint_names(tmp_path: Path) -> None:
    names = ("Background", "Hair", "Face")
    folder = people.sapiens2(tmp_path, names)
    assert BACKEND.load(ModelSource(path=str(folder))).classes == names


def test_unnamed_classes_of_another_number_are_refused(tmp_path: Path) -> None:
    folder = people.sapiens2(tmp_path, [f"LABEL_{number}" for number in range(5)])
    with pytest.raises(MaskWeightsNotFound, match="none of its 5 classes"):
        BACKEND.load(ModelSource(path=str(folder)))


def test_a_folder_without_its_preprocessing_is_refused(tmp_path: Path) -> None:
    folder = people.sapiens2(tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(MaskWeightsNotFound, match=r"there is no preprocessor_config\.json"):
        BACKEND.load(ModelSource(path=str(folder)))


def test_a_v1_file_finds_red_hair_where_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = people.sapiens_torchscript(tmp_path, RedIsHair())
    parser = BACKEND.load(ModelSource(path=str(file)))
    assert "runs the code in it" in caplog.text
    assert parser.classes == V1
    picture = torch.zeros(200, 300, 3, dtype=torch.uint8)
    picture[50:100, 60:180, 0] = 255
    hair = parser.parse([picture])[0].argmax(0) == V1.index("Hair")
    rows, columns = torch.nonzero(hair, as_tuple=True)
    edges = [int(each) for each in (rows.min(), rows.max(), columns.min(), columns.max())]
    assert edges == pytest.approx([50, 99, 60, 179], abs=1)
    assert int(hair.sum()) == pytest.approx(50 * 120, rel=0.03)


def test_v1_reads_pixels_as_published(tmp_path: Path) -> None:
    parser = BACKEND.load(ModelSource(path=str(people.sapiens_torchscript(tmp_path))))
    seen: list[Tensor] = []
    parser.model = lambda batch: seen.append(batch) or torch.zeros(1, 28, 4, 4)
    picture = torch.tensor([255, 0, 128], dtype=torch.uint8).expand(40, 30, 3)
    parser.parse([picture])
    assert seen[0].shape == (1, 3, 1024, 768)
    expected = torch.tensor([(255 - 123.5) / 58.5, -116.5 / 57.0, (128 - 103.5) / 57.5])
    torch.testing.assert_close(seen[0][0, :, 512, 384], expected)


@pytest.mark.parametrize("names", [V1, V2], ids=["v1", "v2"])
def test_known_logits_come_back_in_place(names: tuple[str, ...]) -> None:
    logits = torch.zeros(1, len(names), 16, 12)
    logits[:, 0] = 4
    logits[:, names.index("Hair"), 4:8, 3:9] = 30
    parser = Sapiens(lambda _: logits, names, Preprocessing(64, 48))
    table = get_grouping("person").table(names)
    sums = parser.sums([torch.zeros(160, 120, 3, dtype=torch.uint8)], table.weights)[0]
    hair = table.regions_of(sums)["hair"] > 0.5
    assert bool(hair[42:78, 32:88].all())
    outside = hair.clone()
    outside[30:90, 20:100] = False
    assert not bool(outside.any())


def test_another_model_behind_the_name_is_noticed(tmp_path: Path) -> None:
    file = people.sapiens_torchscript(tmp_path, nn.Conv2d(3, 17, 8, 8))
    parser = BACKEND.load(ModelSource(path=str(file)))
    with pytest.raises(BackendUnusable, match="17 classes apart where 28"):
        parser.parse([torch.zeros(8, 8, 3, dtype=torch.uint8)])


def test_a_file_that_is_not_torchscript_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "sapiens_1b_bfloat16.pt2"
    file.write_bytes(b"not a program")
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(MaskWeightsNotFound, match=r"_torchscript\.pt2"),
    ):
        BACKEND.load(ModelSource(path=str(file)))
