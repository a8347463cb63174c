"""Masks through the server: every form read, changed and written as its own, and nothing lost."""

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image

from frisket.maskgen.files import record
from frisket.maskgen.files.store import MaskStore, extend_legend, read_png_legend, write_labels
from frisket.masks.painting.strokes import IDS
from frisket.studio.documents.base import MaskPatch, Tile
from frisket.studio.documents.wire import BadPatch, pack_patch, unpack_patch

WIDTH, HEIGHT = 40, 30
Ids = NDArray[np.uint8]


def make_clip(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 30)).save(path)


def make_project(folder: Path, data: str, regions: str = "face = 1.0\nbackground = 0.0") -> None:
    make_clip(folder / "clips/a.png")
    text = f'[[data]]\nclips = "clips"\n{data}\n[regions]\n{regions}\n'
    (folder / "frisket.toml").write_text(text, encoding="utf-8")


def find_clip(client: TestClient, name: str = "a") -> str:
    (clip_set, *_) = client.get("/api/workspace").json()["sets"]
    clips = client.get(f"/api/sets/{clip_set['id']}/clips").json()["clips"]
    return str(next(clip["id"] for clip in clips if clip["name"] == name))


def read(client: TestClient, clip: str) -> tuple[dict[str, Any], Ids]:
    answer = client.get(f"/api/clips/{clip}/mask")
    assert answer.status_code == 200, answer.text
    info = json.loads(answer.headers["X-Frisket-Mask"])
    flat = np.frombuffer(zlib.decompress(answer.content), np.uint8)
    return info, flat.reshape(info["height"], info["width"]).copy()


def write(
    client: TestClient, clip: str, info: dict[str, Any], plane: int = IDS, value: int = 1, **to: Any
) -> Any:
    tile = Tile(plane, 5, 6, np.full((8, 10), value, np.uint8))
    patch = MaskPatch(to.get("width", info["width"]), to.get("height", info["height"]), (tile,))
    headers = {"If-Match": info["revision"]}
    return client.put(f"/api/clips/{clip}/mask", content=pack_patch(patch), headers=headers)


def painted(value: int, under: Ids | None = None) -> Ids:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8) if under is None else under.copy()
    ids[6:14, 5:15] = value
    return ids


def open_pixels(path: Path) -> Ids:
    return np.asarray(Image.open(path))


def test_a_blank_mask_is_painted_as_frisket_masks_would_write_it(
    client: TestClient, folder: Path, tmp_path: Path
) -> None:
    make_project(folder, 'masks = "masks"', "face = 1.0\nhair = 0.5\nbackground = 0.0")
    clip = find_clip(client)
    info, ids = read(client, clip)
    assert not ids.any()
    assert info["form"] == "labels"
    assert [(each["id"], each["name"], each["weight"]) for each in info["legend"]] == [
        (0, "background", 0.0),
        (1, "face", 1.0),
        (2, "hair", 0.5),
    ]
    assert write(client, clip, info, value=2).status_code == 200
    legend = extend_legend(tmp_path / "other/legend.json", ["face", "hair"])
    assert json.loads((folder / "masks/legend.json").read_text()) == legend
    write_labels(tmp_path / "other/a.png", torch.from_numpy(painted(2)), legend)
    assert (folder / "masks/a.png").read_bytes() == (tmp_path / "other/a.png").read_bytes()
    assert read_png_legend(folder / "masks/a.png") == legend
    again, ids = read(client, clip)
    assert np.array_equal(ids, painted(2))
    assert again["revision"] != info["revision"]
    assert not list(folder.rglob("*.part"))


def test_levels_keep_the_grey_of_what_was_not_painted(client: TestClient, folder: Path) -> None:
    make_project(
        folder,
        'masks = { path = "masks", levels = { face = 255, hair = 80, background = 0 } }',
        "face = 1.0\nhair = 0.5\nbackground = 0.0",
    )
    grey = np.zeros((HEIGHT, WIDTH), np.uint8)
    grey[:, 30], grey[:, 31], grey[:, 32] = 60, 200, 255
    (folder / "masks").mkdir()
    Image.fromarray(grey).save(folder / "masks/a.png")
    clip = find_clip(client)
    info, ids = read(client, clip)
    assert [ids[0, column] for column in (29, 30, 31, 32)] == [0, 2, 1, 1]
    write(client, clip, info, value=2)
    assert np.array_equal(open_pixels(folder / "masks/a.png"), painted(80, grey))


def test_levels_are_read_as_the_trainer_reads_them(client: TestClient, folder: Path) -> None:
    from frisket.masks.read import by_level

    table = {"face": 255, "body": 128, "hair": 80}
    toml = ", ".join(f"{name} = {level}" for name, level in table.items())
    regions = "face = 1.0\nbody = 0.5\nhair = 0.3\n"
    make_project(folder, f'masks = {{ path = "masks", levels = {{ {toml} }} }}', regions)
    grey = np.resize(np.arange(256, dtype=np.uint8), (HEIGHT, WIDTH))
    (folder / "masks").mkdir()
    Image.fromarray(grey).save(folder / "masks/a.png")
    info, ids = read(client, find_clip(client))
    planes = by_level(torch.from_numpy(grey.astype(np.float32) / np.float32(255))[None], table)
    for region in info["legend"]:
        if region["id"]:
            assert np.array_equal(ids == region["id"], planes[region["name"]][0].numpy() == 1)


def test_exact_colours_stay_exact(client: TestClient, folder: Path) -> None:
    make_project(folder, 'masks = { path = "masks", legend = { face = [255, 10, 0] } }')
    clip = find_clip(client)
    info, _ = read(client, clip)
    assert info["legend"][1]["colour"] == "#ff0a00"
    write(client, clip, info)
    rgb = np.asarray(Image.open(folder / "masks/a.png"))
    assert np.array_equal((rgb == (255, 10, 0)).all(-1), painted(1) == 1)
    assert not rgb[painted(1) == 0].any()


@pytest.mark.parametrize("invert", [False, True])
def test_a_grey_mask_is_a_soft_plane(client: TestClient, folder: Path, invert: bool) -> None:
    make_project(folder, f'masks = {{ path = "masks", invert = {str(invert).lower()} }}')
    grey = np.zeros((HEIGHT, WIDTH), np.uint8)
    grey[0, :] = 77
    (folder / "masks").mkdir()
    Image.fromarray(255 - grey if invert else grey).save(folder / "masks/a.png")
    clip = find_clip(client)
    info, _ = read(client, clip)
    assert (info["truth"], info["soft"], info["form"]) == ("soft", ["face"], "grey")
    plane = client.get(f"/api/clips/{clip}/mask/soft/face").content
    assert zlib.decompress(plane) == grey.tobytes()
    write(client, clip, info, plane=1, value=130)
    expected = painted(130, grey)
    assert np.array_equal(
        open_pixels(folder / "masks/a.png"), 255 - expected if invert else expected
    )
    assert np.array_equal(read(client, clip)[1], (expected >= 128).astype(np.uint8))


def test_a_folder_a_region_has_a_plane_each(client: TestClient, folder: Path) -> None:
    make_project(folder, 'masks = { face = "m/face", hair = "m/hair" }', "face = 1.0\nhair = 0.3\n")
    clip = find_clip(client)
    info, _ = read(client, clip)
    assert info["soft"] == ["face", "hair"]
    write(client, clip, info, plane=2, value=200)
    assert np.array_equal(open_pixels(folder / "m/hair/a.png"), painted(200))
    assert not (folder / "m/face/a.png").exists()  # an empty plane needs no file


def test_sidecars_and_other_suffixes(client: TestClient, folder: Path) -> None:
    make_project(folder, 'masks = "sidecar"')
    Image.fromarray(painted(255)).save(folder / "clips/a-masklabel.bmp")
    clip = find_clip(client)
    info, ids = read(client, clip)
    assert np.array_equal(ids, painted(1))
    assert "a-masklabel.png" in info["notes"][0]
    write(client, clip, info, plane=1, value=0)
    assert not (folder / "clips/a-masklabel.bmp").exists()
    assert not open_pixels(folder / "clips/a-masklabel.png").any()
    versions = client.get(f"/api/clips/{clip}/mask/history").json()["versions"]
    assert [version["number"] for version in versions] == [1, 0]


@pytest.mark.parametrize("masks", ["alpha", "none"])
def test_what_cannot_be_painted_says_why(client: TestClient, folder: Path, masks: str) -> None:
    make_project(folder, f'masks = "{masks}"')
    clip = find_clip(client)
    info, ids = read(client, clip)
    assert (info["editable"], info["offer"]) == (False, "masks")
    assert info["why"]
    assert ids.shape == (HEIGHT, WIDTH)
    answer = write(client, clip, info)
    assert answer.status_code == 422
    assert answer.json()["error"] == info["why"]


def test_a_mask_of_another_size_is_shown_at_the_clips(client: TestClient, folder: Path) -> None:
    make_project(folder, 'masks = "masks"')
    (folder / "masks").mkdir()
    Image.fromarray(painted(255)[::2, ::2]).save(folder / "masks/a.png")
    clip = find_clip(client)
    info, ids = read(client, clip)
    assert ids.shape == (HEIGHT, WIDTH)
    assert "20 x 15" in info["notes"][0]
    Image.fromarray(painted(255)[::2]).save(folder / "masks/a.png")
    info, _ = read(client, clip)
    assert not info["editable"]
    assert "another shape" in info["why"]


def test_names_of_any_folder_and_any_unicode(client: TestClient, folder: Path) -> None:
    make_project(folder, 'masks = "masks"', "face = 1.0\nhair = 0.5\n")
    make_clip(folder / "clips/sub.d/take.1.png")
    make_clip(folder / "clips/cafe\u0301.jpg")
    (folder / "masks/sub.d").mkdir(parents=True)
    for name in ("sub.d/take.1", "caf\u00e9"):
        clip = find_clip(client, name)
        info, _ = read(client, clip)
        assert write(client, clip, info).status_code == 200
    assert (folder / "masks/sub.d/take.1.png").is_file()
    assert (folder / "masks/caf\u00e9.png").is_file()
    again, ids = read(client, find_clip(client, "caf\u00e9"))
    assert np.array_equal(ids, painted(1))
    assert again["editable"]


def test_a_manifest_names_the_file_that_is_painted(client: TestClient, folder: Path) -> None:
    make_clip(folder / "a.png")
    lines = [{"path": "a.png", "mask": "there.png", "caption": ""}]
    (folder / "set.jsonl").write_text("\n".join(map(json.dumps, lines)))
    Image.fromarray(painted(255)).save(folder / "there.png")
    (folder / "frisket.toml").write_text('[[data]]\nclips = "set.jsonl"\n[regions]\nface = 1.0\n')
    clip = find_clip(client)
    info, ids = read(client, clip)
    assert np.array_equal(ids, painted(1))
    assert write(client, clip, info, plane=1, value=9).status_code == 200
    assert np.array_equal(open_pixels(folder / "there.png"), painted(9))


def test_two_windows_the_second_is_told(client: TestClient, folder: Path) -> None:
    make_project(folder, 'masks = "masks"', "face = 1.0\nhair = 0.5\n")
    clip = find_clip(client)
    info, _ = read(client, clip)
    first = write(client, clip, info, value=1)
    second = write(client, clip, info, value=2)
    assert second.status_code == 412
    assert second.json()["revision"] == first.json()["revision"]
    assert np.array_equal(open_pixels(folder / "masks/a.png"), painted(1))


def test_a_change_by_another_program_is_a_conflict_and_kept(
    client: TestClient, folder: Path
) -> None:
    make_project(folder, 'masks = "masks"', "face = 1.0\nhair = 0.5\n")
    clip = find_clip(client)
    info, _ = read(client, clip)
    write(client, clip, info)
    info, _ = read(client, clip)
    Image.fromarray(np.full((HEIGHT, WIDTH), 2, np.uint8)).save(folder / "masks/a.png")
    assert write(client, clip, info).status_code == 412
    info, ids = read(client, clip)
    assert (ids == 2).all()
    write(client, clip, info)
    versions = client.get(f"/api/clips/{clip}/mask/history").json()["versions"]
    assert [version["note"] for version in versions][1] == "changed outside the studio"
    headers = {"If-Match": read(client, clip)[0]["revision"]}
    outside = versions[1]["number"]
    answer = client.post(f"/api/clips/{clip}/mask/history/{outside}/restore", headers=headers)
    assert answer.status_code == 200
    assert (read(client, clip)[1] == 2).all()


def test_the_last_versions_are_kept_and_the_first(client: TestClient, folder: Path) -> None:
    make_project(folder, 'masks = "masks"', "face = 1.0\nhair = 0.5\n")
    clip = find_clip(client)
    for number in range(22):
        info, _ = read(client, clip)
        write(client, clip, info, value=1 + number % 2)
    versions = client.get(f"/api/clips/{clip}/mask/history").json()["versions"]
    assert [version["number"] for version in versions] == [*range(22, 2, -1), 1]


def test_an_index_that_no_region_has_is_refused(client: TestClient, folder: Path) -> None:
    make_project(folder, 'masks = "masks"', "face = 1.0\nhair = 0.5\n")
    clip = find_clip(client)
    info, _ = read(client, clip)
    answer = write(client, clip, info, value=9)
    assert answer.status_code == 422
    assert "index 9" in answer.json()["error"]
    assert not (folder / "masks/a.png").exists()


STROKE = {"op": "stroke", "id": 1, "points": [4, 4, 2.5], "locked": [], "only": None}
SMALL = zlib.compress(bytes(16))


def break_patch(
    change: Callable[[dict[str, Any]], object] = lambda _: None, body: bytes = SMALL
) -> bytes:
    header: dict[str, Any] = {
        "width": WIDTH,
        "height": HEIGHT,
        "tiles": [{"plane": IDS, "x": 0, "y": 0, "w": 4, "h": 4}],
    }
    change(header)
    text = json.dumps(header).encode()
    return b"FMP1" + len(text).to_bytes(4, "little") + text + body


BROKEN: list[tuple[str, bytes]] = [
    ("empty", b""),
    ("other", b"PNG" * 10),
    ("long header", b"FMP1" + (1 << 30).to_bytes(4, "little") + b"{}"),
    ("not JSON", b"FMP1" + (2).to_bytes(4, "little") + b"{]" + zlib.compress(b"")),
    ("outside", break_patch(lambda h: h["tiles"][0].update(x=37))),
    ("negative", break_patch(lambda h: h["tiles"][0].update(x=-1))),
    ("fraction", break_patch(lambda h: h["tiles"][0].update(x=1.5))),
    ("text", break_patch(lambda h: h["tiles"][0].update(w="4"))),
    ("NaN", break_patch(lambda h: h["tiles"][0].update(w=float("nan")))),
    ("plane", break_patch(lambda h: h["tiles"][0].update(plane=256))),
    ("huge", break_patch(lambda h: h.update(width=65536, height=65536))),
    ("unknown key", break_patch(lambda h: h.update(path="/etc/passwd"))),
    ("too much", break_patch(lambda h: h.update(tiles=h["tiles"] * 100))),
    ("too little", break_patch(lambda h: h["tiles"][0].update(w=5))),
    ("edit", break_patch(lambda h: h.update(edits=[{"op": "restore", "number": 0}]))),
    ("point", break_patch(lambda h: h.update(edits=[{**STROKE, "points": [1, 2, math.nan]}]))),
    ("stroke", break_patch(lambda h: h.update(edits=[{**STROKE, "points": [1e9, 2, 1]}]))),
    ("bomb", break_patch(body=zlib.compress(bytes(1 << 24), 9))),
]


def test_hostile_bodies_are_refused_and_change_nothing(client: TestClient, folder: Path) -> None:
    make_project(folder, 'masks = "masks"', "face = 1.0\nhair = 0.5\n")
    clip = find_clip(client)
    headers = {"If-Match": read(client, clip)[0]["revision"]}
    for name, body in BROKEN:
        answer = client.put(f"/api/clips/{clip}/mask", content=body, headers=headers)
        assert answer.status_code == 422, (name, answer.text)
        assert answer.json()["error"], name
    assert not (folder / "masks").exists()


def test_a_change_of_another_size_is_refused(client: TestClient, folder: Path) -> None:
    make_project(folder, 'masks = "masks"', "face = 1.0\nhair = 0.5\n")
    clip = find_clip(client)
    info, _ = read(client, clip)
    assert write(client, clip, info, width=WIDTH + 1).status_code == 422
    assert write(client, clip, info, plane=7, value=3).status_code in (200, 422)
    headers = {"If-Match": "x" * 100}
    assert client.put(f"/api/clips/{clip}/mask", content=b"", headers=headers).status_code == 422
    assert client.put(f"/api/clips/{clip}/mask", content=b"").status_code == 422


def test_a_bomb_is_never_unpacked() -> None:
    bomb = break_patch(body=zlib.compress(bytes(1 << 28), 9))
    with pytest.raises(BadPatch):
        unpack_patch(bomb)


def test_a_mask_edited_by_hand_is_left_alone(client: TestClient, folder: Path) -> None:
    make_project(folder, 'masks = "masks"', "face = 1.0\nhair = 0.5\n")
    store = MaskStore(folder / "masks")
    legend = extend_legend(store.legend, ["face", "hair"])
    path = store.labels("a", video=False)
    write_labels(path, torch.from_numpy(painted(1)), legend)
    clip_path = folder / "clips/a.png"
    made = record.MaskRecord(
        clip=record.Stamp.of(clip_path), frames=1, height=HEIGHT, width=WIDTH, status="unsure",
        settings={}, key="k", masks=(record.Stamp.of(path, "a.png"),), legend=legend,
        notes=("a doubt",),
    )  # fmt: skip
    record.save(made, store.record("a"))

    def find_state() -> str:
        present = store.present("a", clip_path)
        return record.state(record.load(store.record("a")), clip=clip_path, masks=present, key="k")

    assert find_state() == "done"
    clip = find_clip(client)
    for value in (2, 1):
        info, _ = read(client, clip)
        write(client, clip, info, value=value)
        if value == 2:
            assert find_state() == "hand"
    kept = record.load(store.record("a"))
    assert kept is not None
    assert kept.notes[0] == "a doubt"
    assert len(kept.notes) == 2
    assert kept.notes[1].startswith("edited by hand in the studio, 20")
