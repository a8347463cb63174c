"""Faces on previews: a row a person in metrics.jsonl, and what is refused before any work."""

import json

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from tests.faces import tiny_onnx

from frisket.config.load import ConfigError
from frisket.config.previews.tables import PreviewIdentity
from frisket.config.tree import Config
from frisket.faces.base import FaceModelNotFound
from frisket.faces.choose import FaceNotUsable
from frisket.faces.recognise import FaceRecogniser
from frisket.families.base import FAMILIES
from frisket.inference.generate import Picture
from frisket.inference.sample_specs import SampleSpec
from frisket.recipes.train import train
from frisket.runs import quickstart_data
from frisket.runs.refusals import refusals
from frisket.runs.sampling.preview_faces import open_preview_faces


@pytest.fixture
def models(tmp_path):
    """OpenCV's pair: red squares are faces."""
    pytest.importorskip("onnx")
    return tiny_onnx.write_sface(tiny_onnx.write_yunet(tmp_path / "models"))


def paint(lower):
    frame = torch.zeros(64, 64, 3, dtype=torch.uint8)
    frame[:32, :32, 0], frame[10:18, :32, 0] = 250, lower
    return frame


def write_faces(folder, *lowers):
    folder.mkdir(parents=True)
    for number, lower in enumerate(lowers):
        Image.fromarray(paint(lower).numpy()).save(folder / f"{number}.png")
    return folder


def test_people_are_told_apart_on_a_grid(models, tmp_path):
    faces = {
        "ada": write_faces(tmp_path / "ada", 60, 62),
        "bob": write_faces(tmp_path / "bob", 240) / "0.png",
    }
    preview_faces = open_preview_faces(
        PreviewIdentity(embedder="sface", source=models, faces=faces)
    )
    shot = SampleSpec("", 0, 64, 64, 1, 1, 1.0)
    empty = torch.zeros(64, 64, 3, dtype=torch.uint8)
    preview_faces.look([Picture(shot, frame[None]) for frame in (paint(61), empty)])
    ada, bob = preview_faces.record["ada"], preview_faces.record["bob"]
    assert ada["cosine"] == pytest.approx(0.5, abs=0.01)  # one of two pictures shows her
    assert (ada["detected"], ada["right"], ada["pictures"]) == (0.5, 0.5, 2)
    assert ada["references"] > 0.99
    assert (bob["detected"], bob["references"]) == (0.0, None)


def test_a_network_that_fails_is_named_once_and_ends_no_run(models, tmp_path, caplog):
    preview_faces = open_preview_faces(
        PreviewIdentity(
            embedder="sface", source=models, faces={"ada": write_faces(tmp_path / "ada", 60)}
        )
    )
    shot = SampleSpec("", 0, 64, 64, 1, 1, 1.0)
    preview_faces.look([Picture(shot, paint(61)[None])])
    assert preview_faces.record["ada"]["detected"] == 1
    detector = preview_faces.recogniser.detector

    class Broken:
        name, licence = "broken", detector.licence

        def detect(self, frame):
            raise RuntimeError("the graph has no such input")

    preview_faces.recogniser = FaceRecogniser(Broken(), preview_faces.recogniser.embedder)
    caplog.clear()
    for _ in range(2):
        preview_faces.look([Picture(shot, paint(61)[None])])
        assert preview_faces.record == {}
    (message,) = caplog.messages
    assert message.startswith("preview.identity: ")
    assert "RuntimeError: the graph has no such input" in message
    preview_faces.recogniser = FaceRecogniser(detector, preview_faces.recogniser.embedder)
    preview_faces.look([Picture(shot, paint(61)[None])])
    assert preview_faces.record["ada"]["detected"] == 1


def test_a_run_writes_a_row_a_preview(models, tmp_path):
    pocket = FAMILIES.load("pocket")
    pocket.save(pocket.tiny("image"), tmp_path / "model")
    quickstart_data.make_clips(tmp_path / "data", seed=0)
    tree = {
        "model": {"source": str(tmp_path / "model"), "device": "cpu"},
        "data": [
            {"clips": tmp_path / "data" / "clips", "masks": tmp_path / "data" / "masks"},
        ],
        "lora": {"rank": 2},
        "preview": {
            **{"prompts": ("a ring",), "steps": 1, "every": 1},
            "identity": {
                "embedder": "sface",
                "source": str(models),
                "faces": {"ada": write_faces(tmp_path / "ada", 60)},
            },
        },
        "run": {"output": tmp_path / "run", "cache": tmp_path / "cache", "steps": 2},
    }
    train(Config.model_validate(tree))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [row for line in lines if "preview" in (row := json.loads(line))]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[1]["preview"]["identity"]["ada"]["pictures"] == 1
    assert -1 <= rows[1]["preview"]["identity"]["ada"]["cosine"] <= 1


def test_nobody_asked_about_is_nothing_loaded():
    assert open_preview_faces(PreviewIdentity()) is None


def test_what_is_missing_is_named(models, tmp_path):
    with pytest.raises(ValidationError, match="`faces` is not given"):
        PreviewIdentity(embedder="sface")
    with pytest.raises(ValidationError, match="`embedder` is not given"):
        PreviewIdentity(faces={"ada": tmp_path})
    empty = write_faces(tmp_path / "empty")

    def ask(place, source=models):
        return PreviewIdentity(embedder="sface", source=source, faces={"ada": place})

    with pytest.raises(ConfigError, match=r"faces\.ada: .*empty holds no picture"):
        open_preview_faces(ask(empty))
    with pytest.raises(ConfigError, match=r"faces\.ada: .*nowhere does not exist"):
        open_preview_faces(ask(tmp_path / "nowhere"))
    faces = write_faces(tmp_path / "ada", 60)
    with pytest.raises(ConfigError, match=r"identity\.source: .*nowhere does not exist"):
        open_preview_faces(ask(faces, tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"identity: no faces plugin .*mean 'sface'"):
        open_preview_faces(PreviewIdentity(embedder="sfac", faces={"ada": faces}))
    with pytest.raises(ConfigError, match=r"no faces plugin .*mean 'yunet'"):
        open_preview_faces(PreviewIdentity(embedder="sface", detector="yunt", faces={"ada": faces}))
    with pytest.raises(FaceModelNotFound, match="empty holds none of face_detection_yunet"):
        open_preview_faces(ask(faces, empty))
    tree = {"preview": {"identity": {"embedder": "sface", "faces": {"ada": empty}}}}
    (refusal,) = [
        error for error in refusals(Config.model_validate(tree)) if "preview" in str(error)
    ]
    assert "empty holds no picture" in str(refusal)
    Image.new("RGB", (64, 64)).save(faces / "9.png")
    with pytest.raises(FaceNotUsable, match=r"9\.png shows no face"):
        open_preview_faces(ask(faces))
