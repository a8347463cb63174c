"""The identity term in whole runs: what is measured falls, what is recorded, video, references."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from tests.runs.faces.portrait_set import draw_portraits, write_keypoints, write_portraits

from frisket.config.load import ConfigError
from frisket.config.tree import Config
from frisket.data.cached.index import Index
from frisket.data.faces.reading import unpack_marks
from frisket.families.base import FAMILIES, Source
from frisket.losses.faces import FaceRequest
from frisket.recipes.train import train
from frisket.runs.faces.reading import ClipFaces, measure_side
from frisket.runs.faces.watching import load_decoder, make_watch
from frisket.runs.prepare import prepare

TINY = {"strength": 1.0, "embedder": "tiny", "t_max": 0.5}


def config_of(folder: Path, output: Path, **sections: Any) -> Config:
    data = {"clips": folder / "clips", "masks": folder / "masks", "resolution": 48}
    run = {"output": output, "cache": folder / "cache", "steps": 2, "batch": 1}
    tree: dict[str, Any] = {
        "model": {"family": "pocket", "variant": "image", "device": "cpu"},
        "data": [data],
        "regions": {"face": 1.0},
        "losses": {"denoise": 0.0, "identity": TINY},
        "lora": {"rank": 8},
        "optimizer": {"lr": 1e-3, "warmup": 0},
    }
    tree["run"] = run | sections.pop("run", {})
    return Config.model_validate(tree | sections)


def read_lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_portraits(tmp_path_factory.mktemp("portraits") / "set", 2, side=48)


def test_thirty_steps_of_it_alone_bring_the_face_nearer(portraits: Path, tmp_path: Path) -> None:
    measured = {"clips": portraits / "clips", "masks": portraits / "masks", "resolution": 48}
    config = config_of(
        portraits,
        tmp_path,
        timesteps={"low": 0.2, "high": 0.45},
        validation={"data": [measured], "every": 30, "t": [0.2, 0.4, 0.9]},
        run={"steps": 30},
    )
    train(config)
    lines = read_lines(tmp_path)
    scores = next(line["validation"] for line in lines if "validation" in line)
    before, after = scores["base"]["identity/face"], scores["tuned"]["identity/face"]
    assert after < 0.6 * before
    steps = [line for line in lines if "loss" in line]
    assert all(line["faces/shown"] == 1 for line in steps)
    assert all(line["identity"] == pytest.approx(line["faces/distance"]) for line in steps)


def test_a_step_above_t_max_decodes_nothing_and_logs_no_distance(
    portraits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = FAMILIES.load("pocket")
    calls: list[int] = []
    whole = type(family).decode

    def count(self: object, vae: object, latents: torch.Tensor) -> torch.Tensor:
        calls.append(len(latents))
        return whole(self, vae, latents)  # type: ignore[arg-type]

    high = config_of(portraits, tmp_path / "high", timesteps={"low": 0.6, "high": 0.9})
    low = config_of(portraits, tmp_path / "low", timesteps={"low": 0.1, "high": 0.3})
    prepared = prepare(high)
    checked = 1  # the tiny one that is decoded through before any work
    monkeypatch.setattr(type(family), "decode", count)
    train(high, prepared=prepared)
    assert len(calls) == checked
    assert all("faces/distance" not in line for line in read_lines(tmp_path / "high"))
    calls.clear()
    train(low, prepared=prepared)
    assert len(calls) - checked == 2  # one clip in each of two steps


def test_a_run_with_the_term_is_resumed_bit_for_bit(portraits: Path, tmp_path: Path) -> None:
    losses = {"denoise": 1.0, "identity": {**TINY, "strength": 0.1}}
    settings = {"losses": losses, "timesteps": {"low": 0.1, "high": 0.45}}
    whole = train(config_of(portraits, tmp_path / "whole", run={"steps": 4}, **settings))
    train(config_of(portraits, tmp_path / "parts", run={"steps": 2}, **settings))
    parts = train(config_of(portraits, tmp_path / "parts", run={"steps": 4}, **settings))
    assert whole.lora.read_bytes()[-4096:] == parts.lora.read_bytes()[-4096:]
    assert [line["loss"] for line in read_lines(tmp_path / "whole") if "loss" in line] == [
        line["loss"] for line in read_lines(tmp_path / "parts") if "loss" in line
    ]


def test_a_clip_without_a_face_teaches_nothing_of_it(portraits: Path, tmp_path: Path) -> None:
    folder = write_portraits(tmp_path / "one", 2)
    (folder / "clips" / "p1.keypoints.json").unlink()
    output = tmp_path / "out"
    train(config_of(folder, output, timesteps={"low": 0.1, "high": 0.3}, run={"batch": 2}))
    for line in read_lines(output):
        assert line["faces/shown"] == 0.5
        assert line["identity"] == pytest.approx(line["faces/distance"] / 2)


def test_a_video_is_looked_at_one_latent_frame_a_step(tmp_path: Path) -> None:
    """Five pixel frames are two latent frames; one without key points is never drawn."""
    folder = tmp_path / "set"
    clip, mask = folder / "clips" / "ada", folder / "masks" / "ada"
    for place in (clip, mask):
        place.mkdir(parents=True)
    _, portraits = draw_portraits(5, seed=3)
    faces = []
    for number, portrait in enumerate(portraits):
        Image.fromarray(portrait.picture).save(clip / f"{number:02d}.png")
        plane = (portrait.planes["face"] * 255).astype(np.uint8)
        Image.fromarray(plane).save(mask / f"{number:02d}.png")
        faces.append({"frame": number, "points": portrait.keypoints.tolist()})
    path = folder / "clips" / "ada.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv444p"
        stream.options = {"qp": "0"}
        for portrait in portraits:
            frame = av.VideoFrame.from_ndarray(portrait.picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    shutil.rmtree(folder / "clips" / "ada")
    (folder / "clips" / "ada.txt").write_text("sks person")
    known = [face for face in faces if face["frame"] in (1, 4)]
    (folder / "clips" / "ada.keypoints.json").write_text(
        json.dumps({"size": [64, 64], "faces": known})
    )
    data = {"clips": folder / "clips", "masks": folder / "masks", "resolution": 64, "frames": 5}
    config = config_of(
        folder,
        tmp_path / "out",
        model={"family": "pocket", "variant": "video", "device": "cpu"},
        data=[data | {"fps": "own"}],
        timesteps={"low": 0.1, "high": 0.3},
    )
    prepared = prepare(config)
    (item,) = prepared.items
    assert item.faces is not None
    marks = unpack_marks(prepared.cache.load("faces", item.faces).tensors)
    assert [mark.frame for mark in marks] == [1]
    torch.testing.assert_close(
        marks[0].keypoints, torch.from_numpy(portraits[4].keypoints), atol=1e-3, rtol=0
    )
    train(config, prepared=prepared)
    assert all(0 < line["faces/distance"] < 2 for line in read_lines(tmp_path / "out"))


def test_a_detector_stands_in_for_the_files(tmp_path: Path) -> None:
    folder = write_portraits(tmp_path / "set", 2)
    keypoints = sorted((folder / "clips").glob("*.keypoints.json"))
    noted = [json.loads(path.read_text())["faces"][0]["points"] for path in keypoints]
    for path in keypoints:
        path.unlink()
    data = {"clips": folder / "clips", "masks": folder / "masks", "resolution": 64}
    losses = {"identity": {**TINY, "detector": "drawn"}}
    prepared = prepare(config_of(folder, tmp_path / "out", data=[data], losses=losses))
    for item, points in zip(prepared.items, noted, strict=True):
        assert item.faces is not None
        (mark,) = unpack_marks(prepared.cache.load("faces", item.faces).tensors)
        assert float((mark.keypoints - torch.tensor(points)).abs().max()) < 4
        assert float(mark.target.norm()) == pytest.approx(1)


def test_references_stand_for_the_person(portraits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ada"
    folder.mkdir()
    _, pictures = draw_portraits(3, seed=9)
    for number, portrait in enumerate(pictures):
        Image.fromarray(portrait.picture).save(folder / f"r{number}.png")
        write_keypoints(folder / f"r{number}.keypoints.json", (64, 64), portrait.keypoints)
    with Index(tmp_path / "cache") as index:
        own = ClipFaces(FaceRequest(region="face", embedder="tiny"), index)
        request = FaceRequest(region="face", embedder="tiny", references=str(folder))
        referred = ClipFaces(request, index)
        assert own.record != referred.record
        singles, targets = [], []
        for portrait in pictures:
            picture = torch.from_numpy(portrait.picture).permute(2, 0, 1) / 127.5 - 1
            points = torch.from_numpy(portrait.keypoints)
            singles.append(own.embed(picture, points))
            targets.append(referred.embed(picture, points))
    assert all(torch.equal(target, targets[0]) for target in targets)
    mean = torch.nn.functional.normalize(torch.stack(singles).mean(0), dim=-1)
    torch.testing.assert_close(targets[0], mean, atol=1e-3, rtol=0)
    (folder / "r1.keypoints.json").unlink()
    with Index(tmp_path / "cache") as index:
        reader = ClipFaces(request, index)
        with pytest.raises(ConfigError, match=r"no face is known in .*r1\.png"):
            reader.embed(picture, points)


def test_references_that_are_not_there_are_refused(portraits: Path, tmp_path: Path) -> None:
    losses = {"identity": {**TINY, "references": str(tmp_path / "gone")}}
    with pytest.raises(ConfigError, match=r"references: .*gone is not there"):
        prepare(config_of(portraits, tmp_path, losses=losses))


def test_a_face_below_twenty_pixels_is_nobody(tmp_path: Path) -> None:
    face = torch.tensor([[26.0, 30], [38, 30], [32, 36], [27, 42], [37, 42]])
    assert 30 < measure_side(face) < 50
    assert measure_side(face / 4) < 20
    assert measure_side(torch.ones(5, 2)) == 0
    with Index(tmp_path) as index:
        reader = ClipFaces(FaceRequest(region="face", embedder="tiny"), index)
        assert reader.embed(torch.zeros(3, 64, 64), face / 4) is None
        assert reader.embed(torch.zeros(3, 64, 64), face) is not None


@pytest.mark.parametrize("name", ["pocket", "stable_diffusion", "wan"])
def test_decoding_again_in_the_backward_pass_changes_no_gradient(name: str, tmp_path: Path) -> None:
    """Through the loading path of a real run, a VAE in float16 included: it runs in float32."""
    family = FAMILIES.load(name)
    variant = family.variants[family.default]
    family.save(family.tiny(family.default), tmp_path)
    half = Source(family.default, str(tmp_path), dtype=torch.float16)
    decode = load_decoder(Config(), family, half)
    plain = family.load_vae(replace(half, dtype=torch.float32)).eval().requires_grad_(False)
    frames = 3 if variant.video else 1
    shape = (1, variant.grid.channels, frames, 4, 4)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    gradients = []
    for way in (decode, lambda cells: family.decode(plain, cells)):
        leaf = latents.clone().requires_grad_()
        pixels = way(leaf)
        assert pixels.shape[2] == 1 + (frames - 1) * variant.grid.temporal
        gradients.append(torch.autograd.grad((0.1 * pixels[:, :, -1]).square().sum(), leaf)[0])
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)
    assert gradients[0].any()
    assert make_watch(Config(), family, half) is None
