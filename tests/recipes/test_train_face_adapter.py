"""`kind = "faceid"`: an image adapter that reads faces, on drawn people."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.runs.image_adapters.scene import config_of, measure_adapter

from frisket.adapters.image.files import read_image_adapter
from frisket.config.load import ConfigError, check
from frisket.faces.base import EMBEDDERS, Embedder
from frisket.faces.detect import (
    DETECTORS,
    DetectedFace,
    DetectorPlugin,
    FaceBox,
    FaceFrame,
    describe_faces,
)
from frisket.families.models.pocket.family import FAMILY
from frisket.licence import Licence
from frisket.media.frames import write_image
from frisket.pocket.portraits import ProceduralPortrait, draw_person, sample_person, sample_view
from frisket.recipes.train import train
from frisket.runs.image_adapters.references import prepare_references
from frisket.runs.memory.estimate import predict
from frisket.runs.prepare import prepare
from frisket.runs.refusals import stop_if_refused

SIDE, PEOPLE, VIEWS = 96, 2, 3


class ExactDetector:
    """Finds the faces of pictures that it was told of, and nobody in others."""

    name = "exact"
    licence = Licence(code="Apache-2.0", weights="none")

    def __init__(self, portraits: list[ProceduralPortrait]) -> None:
        self.known = {portrait.picture.tobytes(): portrait for portrait in portraits}

    def detect(self, frame: FaceFrame) -> list[DetectedFace]:
        portrait = self.known.get(frame.numpy().tobytes())
        if portrait is None:
            return []
        rows, columns = (portrait.planes["face"] > 0.5).nonzero()
        box = FaceBox(*map(float, (columns.min(), rows.min(), columns.max(), rows.max())))
        return [DetectedFace(box, torch.from_numpy(portrait.keypoints), 1.0)]


def draw_people() -> list[list[ProceduralPortrait]]:
    rng = np.random.RandomState(3)
    people = [sample_person(rng) for _ in range(PEOPLE)]
    return [[draw_person(who, sample_view(rng), SIDE) for _ in range(VIEWS)] for who in people]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two people in three views each, and one picture of nobody."""
    people = draw_people()
    for who, portraits in enumerate(people):
        for number, portrait in enumerate(portraits):
            face = (portrait.planes["face"] * 255).round().astype(np.uint8)
            for folder, pixels in (("clips", portrait.picture), ("masks", face)):
                place = tmp_path / "data" / folder / f"person{who}"
                place.mkdir(parents=True, exist_ok=True)
                shown = pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, 2)
                write_image(place / f"{who}{number}.png", torch.from_numpy(shown.copy()))
    FAMILY.save(FAMILY.tiny("image"), tmp_path / "image")
    detector = ExactDetector([portrait for portraits in people for portrait in portraits])
    plugin = DetectorPlugin("exact", detector.licence, lambda *_: detector, commercial=True)
    original = type(DETECTORS).load

    def load(shelf: Any, name: str) -> Any:
        return plugin if shelf is DETECTORS and name == "exact" else original(shelf, name)

    monkeypatch.setattr(type(DETECTORS), "load", load)
    return tmp_path


def config_of_faces(world: Path, output: Path, **options: Any) -> Any:
    data = [
        {"clips": world / "data" / "clips" / name, "masks": world / "data" / "masks" / name,
         "caption": "a person"}
        for name in ("person0", "person1")
    ]  # fmt: skip
    table = {"encoder": None, "kind": "faceid", "embedder": "tiny", "detector": "exact", **options}
    return config_of(
        world, output, data=data, regions={"face": 1.0}, image_adapter=table,
        validation={"holdout": 0}, run={"steps": 2},
    )  # fmt: skip


def test_clips_are_shown_the_face_of_their_own_person(world: Path, tmp_path: Path) -> None:
    config = config_of_faces(world, tmp_path / "run", references="other")
    prepared = prepare(config)
    references = prepare_references(config, prepared)
    assert references.blank.tolist() == [0.0] * 64
    embedder: Embedder = EMBEDDERS.load("tiny").load("", "cpu")
    for item, own, others in zip(
        prepared.items, references.own_keys, references.other_places, strict=True
    ):
        embedding = references.store.load("reference", own).tensors["embedding"]
        assert embedding.norm().item() == pytest.approx(1, abs=1e-5)
        frame = torch.from_numpy(find_portrait(item.clip).picture)
        detector = ExactDetector([find_portrait(item.clip)])
        (face,) = describe_faces(embedder, frame, detector.detect(frame))
        assert face.embedding is not None
        torch.testing.assert_close(embedding, face.embedding)
        folders = {Path(prepared.items[place].clip).parent for place in others}
        assert folders == {Path(item.clip).parent}
        assert len(others) == VIEWS - 1


def find_portrait(clip: str) -> ProceduralPortrait:
    who, number = map(int, Path(clip).stem)
    return draw_people()[who][number]


def test_a_run_on_faces_leaves_a_faceid_file(world: Path, tmp_path: Path) -> None:
    config = config_of_faces(world, tmp_path / "run")
    assert predict(config, prepare=False).adapter == pytest.approx(measure_adapter(config))
    result = train(config)
    assert result.image_adapter is not None
    file = read_image_adapter(result.image_adapter)
    assert (file.kind, file.form, file.embedding, file.tokens) == ("faceid", "unit", 64, 4)
    assert "embedder `tiny`" in (tmp_path / "run" / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedder": ""}, "`image_adapter.embedder` is not set"),
        ({"embedder": "tinny"}, "image_adapter.embedder: .*tiny"),
        ({"embedder_source": Path("w.pth")}, "image_adapter.embedder_source: .*w.pth"),
        ({"detector": "yunet", "detector_source": Path("gone")}, "detector_source: .*gone"),
    ],
)
def test_networks_are_refused_before_any_work(
    world: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    config = config_of_faces(world, tmp_path / "run", **options)
    with pytest.raises(ConfigError, match=message):
        look(config)


def look(config: Any) -> None:
    check(config)
    stop_if_refused(config)


def test_a_data_set_without_faces_is_refused(world: Path, tmp_path: Path) -> None:
    for path in (world / "data" / "clips").rglob("*.png"):
        write_image(path, torch.zeros(SIDE, SIDE, 3, dtype=torch.uint8))
    with pytest.raises(ConfigError, match=r"no clip shows a face where its mask has 'face'"):
        train(config_of_faces(world, tmp_path / "run"))
