"""Clicks, boxes and words: proposals of a tiny SAM, of GrabCut, and what the command writes."""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image
from tests.maskgen.tiny import grounding, sam

from frisket.config.maskgen import PointRequest
from frisket.maskgen.base import BackendUnusable, Box
from frisket.maskgen.draft.click import cut_click
from frisket.maskgen.files.store import read_png_legend
from frisket.media.frames import BadMedia, decode
from frisket.recipes.masks import propose
from frisket.recipes.masks.point import lay_region, point_mask
from frisket.recipes.masks.propose import Proposer, SegmentPrompt, name_backend
from frisket.recipes.serve.ops.segment import OPS
from frisket.recipes.serve.session import Answer, Session
from frisket.studio.settings import read_settings, remember_models

PHOTOS = Path(__file__).parents[3] / "examples" / "photos"
FACE = (170.0, 60.0, 290.0, 210.0)


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub's cache of this machine holds is no part of a test."""
    monkeypatch.setattr(propose, "find_cached", lambda _: None)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "sam2": sam.sam2(root / "sam2"),
        "sam3": sam.sam3_video(root / "sam3"),
        "clipseg": grounding.clipseg(root / "clipseg"),
    }


@pytest.fixture
def session() -> Session:
    return Session(lambda *_: None)


def read(reply: Answer) -> list[NDArray[np.uint8]]:
    masks, start = [], 0
    for length in reply.value["lengths"]:
        pixels = zlib.decompress(reply.body[start : start + length])
        masks.append(np.frombuffer(pixels, np.uint8).reshape(512, 512))
        start += length
    assert start == len(reply.body)
    return masks


def clip(name: str = "astronaut") -> dict[str, Any]:
    return {"clip": str(PHOTOS / "clips" / f"{name}.jpg")}


def overlap(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float((one & other).sum() / (one | other).sum())


def true_region(grey: int, name: str = "astronaut") -> NDArray[np.bool_]:
    return np.asarray(Image.open(PHOTOS / "masks" / f"{name}.png")) == grey


def test_grabcut_needs_no_model_and_obeys_clicks(session: Session) -> None:
    reply = OPS["segment.points"](session, clip() | {"box": FACE})
    assert reply.value["backend"] == "draft"
    assert overlap(read(reply)[0] > 0, true_region(255)) > 0.85
    points = [[230, 130, True]]
    clicked = OPS["segment.points"](session, clip() | {"points": points})
    best = max(overlap(mask > 0, true_region(255)) for mask in read(clicked))
    assert best > 0.7
    assert 1 <= len(clicked.value["scores"]) <= 3
    assert clicked.value["scores"] == sorted(clicked.value["scores"], reverse=True)
    less = OPS["segment.points"](session, clip() | {"points": [*points, [200, 85, False]]})
    for mask in read(less):
        assert mask[130, 230]
        assert not mask[85, 200]
    assert OPS["segment.points"](session, clip() | {"points": points}).body == clicked.body


def test_a_plain_square_is_cut_to_the_pixel() -> None:
    picture = np.full((160, 200, 3), 60, np.uint8)
    picture[40:90, 70:130] = (220, 40, 40)
    (best, *_) = cut_click(torch.from_numpy(picture), [(100.0, 60.0, True)])
    truth = np.zeros((160, 200), bool)
    truth[40:90, 70:130] = True
    assert overlap(best.mask.numpy() >= 0.5, truth) > 0.97
    with pytest.raises(ValueError, match="outside the picture"):
        cut_click(torch.from_numpy(picture), [(300.0, 1.0, True)])
    with pytest.raises(ValueError, match="at least one click inside"):
        cut_click(torch.from_numpy(picture), [(3.0, 1.0, False)])


@pytest.mark.parametrize("name", ["sam2", "sam3"])
def test_a_model_is_asked_where_its_folder_is_known(
    session: Session, models: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name_backend(models[name]) == name
    args = clip() | {"models": [str(models[name])]}
    several = OPS["segment.points"](session, args | {"points": [[230, 130, True]]})
    assert several.value["backend"] == name
    assert several.value["source"] == models[name].name
    assert len(several.value["scores"]) <= 3

    def fail(*_: Any) -> None:
        raise AssertionError("the picture is encoded once")

    monkeypatch.setattr(Proposer, "encode", fail)
    single = OPS["segment.points"](session, args | {"points": [[230, 130, True]], "box": FACE})
    assert len(single.value["scores"]) <= 1
    listed = OPS["segment.list"](session, args).value
    assert listed["points"] == name
    assert (listed["text"] == "sam3") == (name == "sam3")


def test_words_need_a_model_that_reads_them(session: Session, models: dict[str, Path]) -> None:
    with pytest.raises(BackendUnusable, match="clipseg"):
        OPS["segment.text"](session, clip() | {"text": "face"})
    args = clip() | {"folders": {"clipseg": str(models["clipseg"])}, "text": "face, hat"}
    reply = OPS["segment.text"](session, args)
    assert reply.value["backend"] == "clipseg"
    with pytest.raises(BackendUnusable, match=r"config\.json"):
        OPS["segment.list"](session, clip() | {"models": [str(PHOTOS)]})


def test_prompts_that_ask_for_nothing_are_refused() -> None:
    for wrong in (
        {},
        {"points": ((1.0, 1.0, False),)},
        {"text": "a", "box": Box(0.0, 0.0, 9.0, 9.0)},
    ):
        with pytest.raises(ValueError, match="give"):
            SegmentPrompt(**wrong)


def test_laying_a_region() -> None:
    labels = torch.tensor([[0, 1, 2, 2]], dtype=torch.uint8)
    mask = torch.tensor([[1, 1, 1, 0]], dtype=torch.uint8)
    assert lay_region(labels, mask, 2, "add").tolist() == [[2, 2, 2, 2]]
    assert lay_region(labels, mask, 2, "subtract").tolist() == [[0, 1, 0, 2]]
    assert lay_region(labels, mask, 2, "replace").tolist() == [[2, 2, 2, 0]]


def test_the_command_writes_a_label_map_that_counts_as_hand_work(folder: Path) -> None:
    (folder / "clips" / "sub").mkdir(parents=True)
    photo = folder / "clips" / "sub" / "ada.jpg"
    shutil.copy(PHOTOS / "clips" / "astronaut.jpg", photo)
    edges = ",".join(map(str, FACE))
    request = PointRequest(clip=photo, clips=folder / "clips", box=edges, region="face")
    pointed = point_mask(request)
    path = folder / "masks" / "sub" / "ada.png"
    assert pointed.path == path
    assert pointed.backend == "draft"
    assert json.loads((folder / "masks" / "legend.json").read_text()) == {"face": 1}
    point_mask(request.model_copy(update={"box": "", "at": ("250,400",), "region": "suit"}))
    assert read_png_legend(path) == {"face": 1, "suit": 2}
    labels = np.asarray(Image.open(path))
    assert set(np.unique(labels)) == {0, 1, 2}
    point_mask(request.model_copy(update={"mode": "subtract"}))
    assert not (np.asarray(Image.open(path)) == 1).any()
    for wrong, error in (
        ({"at": ("9",)}, "write x,y"),
        ({"box": "1,2"}, "left,top,right,bottom"),
        ({"candidate": 9}, "--candidate 9"),
        ({"at": ("9999,1",)}, "outside the picture"),
    ):
        with pytest.raises(ValueError, match=error):
            point_mask(request.model_copy(update=wrong))
    Image.new("L", (512, 512), 80).save(folder / "masks" / "grey.png")
    shutil.copy(photo, folder / "clips" / "grey.jpg")
    (folder / "masks" / "legend.json").unlink()
    with pytest.raises(BadMedia, match="no label map"):
        point_mask(request.model_copy(update={"clip": folder / "clips" / "grey.jpg"}))


def test_the_route_and_the_settings(
    folder: Path, client: TestClient, models: dict[str, Path]
) -> None:
    shutil.copytree(PHOTOS, folder, dirs_exist_ok=True)
    remember_models(folder / ".frisket-studio", [models["sam2"]])
    assert read_settings(folder / ".frisket-studio").models == (models["sam2"],)
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        remember_models(folder, [PHOTOS])
    set_id = client.get("/api/workspace").json()["sets"][0]["id"]
    clips = client.get(f"/api/sets/{set_id}/clips").json()["clips"]
    address = f"/api/clips/{clips[0]['id']}/segment"
    answer = client.post(address, json={"points": [{"x": 230, "y": 130}]})
    assert answer.status_code == 200
    length = int.from_bytes(answer.content[:4], "little")
    value = json.loads(answer.content[4 : 4 + length])
    assert value["backend"] == "sam2"
    assert len(answer.content) == 4 + length + sum(value["lengths"])
    for wrong in (
        *({}, {"points": [{"x": -1, "y": 0}]}, {"text": "x" * 999}, {"backend": "../x"}),
        *({"points": [{"x": 1e9, "y": 0}]}, {"device": "cuda:0; rm"}, {"models": ["/"]}),
    ):
        assert client.post(address, json=wrong).status_code == 422
    assert client.post("/api/clips/none/segment", json={"text": "a"}).status_code == 404
    picture = decode(PHOTOS / "clips" / "astronaut.jpg")
    assert value["size"] == [picture.shape[2], picture.shape[1]]
