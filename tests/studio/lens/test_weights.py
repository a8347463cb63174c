"""What the studio shows of a mask is what the trainer makes of it, and what is lost is named."""

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

from frisket.config.load import load
from frisket.data.mask_pipeline import arrange
from frisket.inspection.lens.view import lay_saved, open_lens, open_window, weigh_cells
from frisket.losses.weighting import weigh
from frisket.media.frames import write_video, writing_labels
from frisket.recipes.serve.ops.weights import MOST_PIXELS, OPS, BadLabels
from frisket.recipes.serve.session import Answer, Session
from frisket.runs.prepare import prepare

PHOTOS = Path(__file__).parents[3] / "examples" / "photos"
LEGEND = {"face": 1, "hair": 2, "body": 3}


@pytest.fixture
def session() -> Session:
    return Session(lambda *_: None)


def see(session: Session, args: dict[str, Any], *parts: NDArray[np.uint8], **more: Any) -> Answer:
    deflated = [zlib.compress(part.tobytes(), 1) for part in parts]
    session.body = b"".join(deflated)
    if parts:
        height, width = parts[0].shape
        args = {"width": width, "height": height, "lengths": [*map(len, deflated)], **args}
    return OPS["weights.see"](session, args | more)


def read(reply: Answer) -> torch.Tensor:
    f, h, w = reply.value["cells"]
    planes = np.frombuffer(reply.body, np.float16).reshape(-1, f, h, w)
    return torch.from_numpy(planes.astype(np.float32))


def name(folder: Path, clip: str = "astronaut", config: str = "pocket.toml") -> dict[str, Any]:
    path = next((folder / "clips").glob(f"{clip}.*g"))
    return {"config": str(folder / config), "clip": str(path), "name": clip}


def kinds(reply: Answer) -> list[tuple[str, str]]:
    return [(fault["kind"], fault["region"]) for fault in reply.value["faults"]]


def sharpen(folder: Path, clip: str = "astronaut") -> NDArray[np.uint8]:
    """The example's mask as the labels that the page holds."""
    greys = np.asarray(Image.open(folder / "masks" / f"{clip}.png"))
    levels = {255: 1, 80: 2, 128: 3}
    return np.vectorize(lambda grey: levels.get(grey, 0))(greys).astype(np.uint8)


@pytest.mark.parametrize("clip", ["astronaut", "grace-hopper"])
def test_saved_and_painted_are_the_entry_that_training_reads(
    folder: Path, session: Session, clip: str
) -> None:
    shutil.copytree(PHOTOS, folder, dirs_exist_ok=True)
    config = load(folder / "pocket.toml", [f"run.cache={folder / 'cache'}", "data.0.flip=false"])
    prepared = prepare(config)
    item = next(item for item in prepared.items if item.name == clip)
    entry = prepared.cache.load("coverage", item.coverage)
    names = entry.notes["regions"].split("\n")
    trained = arrange(entry.tensors["planes"], names, prepared.regions)
    saved = see(session, name(folder, clip))
    assert [region["name"] for region in saved.value["regions"][:-1]] == list(prepared.regions)
    assert torch.equal(read(saved)[1:], trained.half().float())
    lens = open_lens(config)
    weighed = weigh(lens.weighting, trained[None], torch.tensor([True]), torch.zeros(1))
    assert torch.equal(read(saved)[0], weighed.weights[0, 0].half().float())
    assert saved.value["divisor"] == pytest.approx(float(weighed.divisor))
    painted = see(session, name(folder, clip), sharpen(folder, clip), legend=LEGEND)
    assert painted.body == saved.body
    assert sum(region["loss"] for region in saved.value["regions"]) == pytest.approx(1)


def test_weights_and_resolution_are_tried_without_a_file_changed(
    folder: Path, session: Session
) -> None:
    shutil.copytree(PHOTOS, folder, dirs_exist_ok=True)
    before = (folder / "pocket.toml").read_bytes()
    first = see(session, name(folder))
    tried = see(session, name(folder), weights={"face": 0.0, "background": 0.5}, resolution=128)
    assert first.value["cells"] == [1, 32, 32]
    assert tried.value["cells"] == [1, 64, 64]
    shares = {region["name"]: region["loss"] for region in tried.value["regions"]}
    assert shares["face"] == 0 < shares["background"]
    assert (folder / "pocket.toml").read_bytes() == before
    with pytest.raises(ValueError, match=r"hat: \[regions\] of the config has no such region"):
        see(session, name(folder), weights={"hat": 1.0})


def write_config(folder: Path, extra: str = "", masks: str = 'masks = "masks"') -> None:
    (folder / "train.toml").write_text(
        '[model]\nfamily = "stable_diffusion"\nvariant = "sdxl"\n'
        f'[[data]]\nclips = "clips"\nresolution = 512\n{masks}\n'
        f"[regions]\nface = 1.0\nhair = 0.5\nbackground = 0.0\n{extra}"
    )


def write_picture(folder: Path, size: tuple[int, int] = (512, 512)) -> None:
    (folder / "clips").mkdir(exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    (folder / "masks" / "legend.json").write_text(json.dumps({"face": 1, "hair": 2}))
    Image.new("RGB", size, (90, 120, 140)).save(folder / "clips" / "a.png")


def test_a_small_region_vanishes_and_a_thin_one_is_named(folder: Path, session: Session) -> None:
    write_picture(folder)
    write_config(folder)
    args = name(folder, "a", "train.toml")
    labels = np.zeros((512, 512), np.uint8)
    labels[200:400, 200:400] = 1
    labels[50:55, 50:55] = 2  # 5 pixels, in a cell of 8
    reply = see(session, args, labels, legend={"face": 1, "hair": 2})
    assert ("vanishes", "hair") in kinds(reply)
    hair = next(fault for fault in reply.value["faults"] if fault["region"] == "hair")
    assert "25 trained pixels" in hair["sentence"]
    assert "8 x 8" in hair["sentence"]
    labels[48:64, 48:64] = 2  # two cells each way: all of it is its own
    assert ("vanishes", "hair") not in kinds(see(session, args, labels, legend=LEGEND))
    labels[48:64, 48:64] = 0
    labels[100:104, :180] = 2  # a line half a cell wide
    assert ("thin", "hair") in kinds(see(session, args, labels, legend=LEGEND))
    labels[:] = 0
    assert ("silent", "") in kinds(see(session, args, labels, legend=LEGEND))


def test_what_the_crop_takes_is_named(folder: Path, session: Session) -> None:
    write_picture(folder, (1200, 300))
    write_config(folder, masks='masks = "masks"\nbuckets = false')
    labels = np.zeros((300, 1200), np.uint8)
    labels[100:200, 20:120] = 1
    labels[100:200, 550:650] = 2
    reply = see(session, name(folder, "a", "train.toml"), labels, legend=LEGEND)
    assert kinds(reply) == [("cropped away", "face")]
    assert reply.value["box"] == [450, 0, 750, 300]


def test_soft_planes_and_inverted_grey_masks_are_read_as_the_trainer_reads_them(
    folder: Path, session: Session
) -> None:
    write_picture(folder)
    (folder / "masks" / "legend.json").unlink()
    (folder / "train.toml").write_text(
        '[model]\nfamily = "stable_diffusion"\nvariant = "sdxl"\n[[data]]\nclips = "clips"\n'
        'resolution = 512\nmasks = { path = "masks", invert = true, feather = 3.0 }\n'
        "[regions]\nface = 1.0\n"
    )
    grey = np.full((512, 512), 255, np.uint8)
    grey[100:300, 100:300] = np.linspace(0, 200, 200, dtype=np.uint8)
    Image.fromarray(grey).save(folder / "masks" / "a.png")
    saved = see(session, name(folder, "a", "train.toml"))
    painted = see(session, name(folder, "a", "train.toml"), grey, soft=["face"])
    assert painted.body == saved.body


def test_a_frame_of_a_video_is_exchanged_in_its_latent_group(
    folder: Path, session: Session
) -> None:
    (folder / "clips").mkdir()
    (folder / "masks").mkdir()
    (folder / "masks" / "legend.json").write_text(json.dumps({"face": 1}))
    frames = torch.randint(0, 255, (9, 64, 64, 3), dtype=torch.uint8)
    write_video(folder / "clips" / "v.mkv", frames, 16, lossless=True)
    labels = np.zeros((9, 64, 64), np.uint8)
    labels[:, 16:48, 16:48] = 1
    with writing_labels(folder / "masks" / "v.mkv", 16) as video:
        for frame in labels:
            video.add(torch.from_numpy(frame))
    (folder / "train.toml").write_text(
        '[model]\nfamily = "wan"\nvariant = "2.2-ti2v-5b-i2v"\n[[data]]\nclips = "clips"\n'
        'masks = "masks"\nframes = 9\nfps = "own"\nresolution = 64\n[regions]\nface = 1.0\n'
    )
    args = {
        **{"config": str(folder / "train.toml"), "name": "v"},
        "clip": str(folder / "clips" / "v.mkv"),
    }
    saved = see(session, args)
    lens = open_lens(load(folder / "train.toml"))
    window = open_window(
        lens, folder / "clips" / "v.mkv", "v", {"": folder / "masks" / "v.mkv"}, 0, None
    )
    view = weigh_cells(lens, lay_saved(lens, window))
    assert torch.equal(read(saved)[1:], view.coverage.half().float())
    assert not read(saved)[0, 0].any()  # handed over clean
    assert ("handed over", "") in kinds(saved)
    emptied = see(session, args, np.zeros((64, 64), np.uint8), legend={"face": 1}, frame=6)
    assert emptied.value["latent"] == 2
    kept, changed = read(saved)[1], read(emptied)[1]
    assert torch.equal(kept[:2], changed[:2])
    assert torch.allclose(changed[2], kept[2] * 0.75)


def test_a_variant_that_hands_a_frame_over_says_so() -> None:
    """`Variant.hands_over` is what `image_conditioning` does, of every variant of every family."""
    from frisket.families.base import CLEAN_MASK, FAMILIES

    for family_name in ("wan", "hunyuan_video"):
        family = FAMILIES.load(family_name)
        for variant, card in family.variants.items():
            if card.sees != "first_frame" or card.like:
                assert not card.hands_over or card.like
                continue
            parts = family.tiny(variant)
            clip = torch.zeros(1, 3, 1 + card.grid.temporal, 4 * card.grid.step, 4 * card.grid.step)
            given = family.image_conditioning(parts.vae, parts.vision, clip, (), None)
            assert card.hands_over == (CLEAN_MASK in given), variant


def test_labels_of_another_size_and_bombs_are_refused(folder: Path, session: Session) -> None:
    shutil.copytree(PHOTOS, folder, dirs_exist_ok=True)
    args = name(folder)
    session.body = zlib.compress(bytes(1 << 26))
    with pytest.raises(BadLabels, match="pixels, 10 x 10 has 100"):
        OPS["weights.see"](session, args | {"width": 10, "height": 10})
    with pytest.raises(BadLabels, match=str(MOST_PIXELS)):
        OPS["weights.see"](session, args | {"width": 1 << 20, "height": 1 << 20})
    session.body = b"no deflate"
    with pytest.raises(BadLabels, match="cannot be inflated"):
        OPS["weights.see"](session, args | {"width": 10, "height": 10})
    with pytest.raises(BadLabels, match="2 parts"):
        see(session, args, *[np.zeros((4, 4), np.uint8)] * 2)


def frame(head: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(head).encode()
    return len(text).to_bytes(4, "little") + text + body


def test_the_route_answers_a_frame_and_refuses_what_is_none(
    folder: Path, client: TestClient
) -> None:
    shutil.copytree(PHOTOS, folder, dirs_exist_ok=True)
    pocket = [each for each in client.get("/api/workspace").json()["sets"]]
    clips = client.get(f"/api/sets/{pocket[0]['id']}/clips").json()["clips"]
    address = f"/api/clips/{clips[0]['id']}/weights"
    body = zlib.compress(sharpen(folder).tobytes())
    head = {"width": 512, "height": 512, "legend": LEGEND, "lengths": [len(body)]}
    answer = client.post(address, content=frame(head, body))
    assert answer.status_code == 200
    length = int.from_bytes(answer.content[:4], "little")
    value = json.loads(answer.content[4 : 4 + length])
    f, h, w = value["cells"]
    assert len(answer.content) == 4 + length + 2 * 4 * f * h * w
    for wrong in (
        *(b"", b"\xff" * 9, frame({"clip": "/etc/passwd"}), frame({**head, "lengths": [1]})),
        *(frame({"t": 2}), frame({"resolution": 1 << 30}), frame({"weights": {"face": -1}})),
    ):
        assert client.post(address, content=wrong).status_code == 422
    (folder / "pocket.toml").write_text("[model\n")
    (folder / "wan.toml").unlink()
    bare = client.get("/api/workspace").json()["sets"][0]["id"]
    clips = client.get(f"/api/sets/{bare}/clips").json()["clips"]
    answer = client.post(f"/api/clips/{clips[0]['id']}/weights", content=frame({}))
    assert answer.status_code == 409
    assert "frisket init" in answer.json()["fix"]
