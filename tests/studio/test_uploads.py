"""Files dropped in: cleaned names, nothing overwritten, whole or not at all."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frisket.studio.sets import uploads
from frisket.studio.sets.uploads import BadUpload, clean_name


def encode(kind: str = "PNG", size=(16, 12)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (90, 30, 200)).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def set_id(folder, client) -> str:
    return client.get("/api/workspace").json()["sets"][0]["id"]


def drop(client, set_id: str, name: str, body: bytes, **query):
    path = f"/api/sets/{set_id}/files"
    return client.post(path, params={"name": name, **query}, content=body)


def list_tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_an_empty_folder_becomes_a_data_set(folder, set_id, client):
    assert drop(client, set_id, "a.png", encode(), last=False).json()["name"] == "a.png"
    assert drop(client, set_id, "a.txt", b"sks", last=False).json()["kind"] == "caption"
    mask = drop(client, set_id, "a.png", encode(), kind="mask").json()
    assert mask["kind"] == "mask"
    assert list_tree(folder) == {"clips/a.png", "clips/a.txt", "masks/a.png"}
    rows = client.get(f"/api/sets/{set_id}/clips").json()["clips"]
    assert [(row["name"], row["masked"]) for row in rows] == [("a", True)]


def test_nothing_is_overwritten(folder, set_id, client):
    first = encode()
    drop(client, set_id, "a.png", first)
    for expected in ("a-2.png", "a-3.jpg", "A-4.png"):
        name = expected.replace("-2", "").replace("-3", "").replace("-4", "")
        kind = "JPEG" if name.endswith("jpg") else "PNG"
        answer = drop(client, set_id, name, encode(kind), last=False).json()
        assert answer == {"name": expected, "kind": "clip", "renamed": True}
    assert (folder / "clips" / "a.png").read_bytes() == first
    drop(client, set_id, "a.txt", b"mine")
    again = drop(client, set_id, "a.txt", b"theirs")
    assert again.status_code == 422
    assert (folder / "clips" / "a.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("../../../etc/a.png", "a.png"),
        ("..\\..\\windows\\a.png", "a.png"),
        ("/etc/a.png", "a.png"),
        ("a\0b.png", "a-b.png"),
        ("a:b|c?.png", "a-b-c-.png"),
        (" .hidden.png", "hidden.png"),
        ("con.png", "con-.png"),
        ("LPT1.x.png", "LPT1.x-.png"),
        ("a\u202egnp.png", "agnp.png"),
        ("e\u0301.png", "\u00e9.png"),
        ("<img src=x onerror=alert(1)>.png", "-img src=x onerror=alert(1)-.png"),
        ("x" * 400 + ".png", "x" * 176 + ".png"),
    ],
)
def test_names_are_cleaned(name, cleaned):
    assert clean_name(name) == cleaned


@pytest.mark.parametrize("name", ["", "..", ".png", "noending", "a/", "a." + "y" * 300])
def test_names_that_are_none_are_refused(name):
    with pytest.raises(BadUpload):
        clean_name(name)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("a.svg", b"<svg onload='alert(1)'/>"),
        ("a.html", b"<script>"),
        ("a.toml", b"x = 1"),
        ("a.png", b"no picture"),
        ("a.png", encode()[:40]),
        ("a.png", b""),
        ("stranger.txt", b"a caption without a clip"),
        ("stranger.mask.png", encode()),
    ],
)
def test_what_is_not_taken_leaves_nothing(folder, set_id, client, name, body):
    answer = drop(client, set_id, name, body)
    assert answer.status_code == 422
    assert answer.json()["error"]
    assert list_tree(folder) == set()


def test_a_file_over_the_limit_leaves_nothing(folder, set_id, client, monkeypatch):
    monkeypatch.setattr(uploads, "LARGEST", 1000)
    answer = drop(client, set_id, "a.mp4", b"x" * 5000)
    assert answer.status_code == 413
    assert list_tree(folder) == set()


def test_a_dropped_mask_goes_where_the_set_reads_masks(folder, client):
    (folder / "clips").mkdir()
    (folder / "clips" / "a.png").write_bytes(encode())
    text = '[model]\nfamily = "pocket"\n[[data]]\nclips = "clips"\nmasks = "sidecar"\n'
    (folder / "frisket.toml").write_text(text)
    set_id = client.get("/api/workspace").json()["sets"][0]["id"]
    grey = io.BytesIO()
    Image.fromarray(np.full((12, 16), 255, np.uint8)).save(grey, "PNG")
    assert drop(client, set_id, "a.mask.png", grey.getvalue()).json()["kind"] == "mask"
    assert (folder / "clips" / "a.mask.png").is_file()
    assert drop(client, set_id, "a-masklabel.png", grey.getvalue()).status_code == 422
