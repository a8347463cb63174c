"""Masks that came to a set without any are read from then on; how a saved mask stands is told."""

import json
import time
import tomllib
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from frisket.masks.painting.strokes import IDS
from frisket.studio.documents.base import MaskPatch, Tile
from frisket.studio.documents.wire import pack_patch

CONFIG = """
[[data]]
clips = "clips"
masks = "{masks}" # none found

[regions]
subject = 1.0 # how much a region teaches
background = 0.0
"""


def make_set(folder: Path, masks: str) -> None:
    (folder / "clips").mkdir()
    Image.new("RGB", (32, 32), (90, 120, 30)).save(folder / "clips" / "a.png")
    (folder / "frisket.toml").write_text(CONFIG.format(masks=masks))


def find_set(client: TestClient) -> str:
    (clip_set,) = client.get("/api/workspace").json()["sets"]
    return str(clip_set["id"])


def test_label_maps_made_in_a_terminal_are_taken_up(client: TestClient, folder: Path) -> None:
    make_set(folder, "none")
    (folder / "masks").mkdir()
    (folder / "masks" / "legend.json").write_text(json.dumps({"face": 1, "hair": 2}))
    Image.fromarray(np.ones((32, 32), np.uint8)).save(folder / "masks" / "a.png")
    answer = client.post(f"/api/sets/{find_set(client)}/masks")
    assert answer.status_code == 200, answer.text
    text = (folder / "frisket.toml").read_text()
    table = tomllib.loads(text)
    assert table["data"][0]["masks"] == "masks"
    # The region of `frisket init`, which no mask shows, is gone: training would warn of it.
    assert table["regions"] == {"background": 0.0, "face": 1.0, "hair": 1.0}
    assert "none found" not in text


def test_a_folder_of_other_pictures_is_not_taken_for_masks(
    client: TestClient, folder: Path
) -> None:
    make_set(folder, "none")
    (folder / "masks").mkdir()
    Image.new("RGB", (32, 32)).save(folder / "masks" / "a.png")
    answer = client.post(f"/api/sets/{find_set(client)}/masks")
    assert answer.status_code == 422
    assert "holds something already" in answer.json()["error"]
    assert 'masks = "none"' in (folder / "frisket.toml").read_text()


def test_how_a_painted_mask_stands_is_told_without_listing_again(
    client: TestClient, folder: Path
) -> None:
    make_set(folder, "masks")
    config = folder / "frisket.toml"
    config.write_text(config.read_text().replace("subject = 1.0", "face = 1.0\nhair = 0.5"))
    set_id = find_set(client)
    (clip,) = client.get(f"/api/sets/{set_id}/clips").json()["clips"]
    assert wait_for_status(client, set_id, {"none", ""}) == "none"
    info = json.loads(client.get(f"/api/clips/{clip['id']}/mask").headers["X-Frisket-Mask"])
    patch = MaskPatch(32, 32, (Tile(IDS, 4, 4, np.ones((8, 8), np.uint8)),))
    headers = {"If-Match": info["revision"]}
    address = f"/api/clips/{clip['id']}/mask"
    assert client.put(address, content=pack_patch(patch), headers=headers).status_code == 200
    assert wait_for_status(client, set_id, {"hand"}) == "hand"


def wait_for_status(client: TestClient, set_id: str, wanted: set[str]) -> str:
    status = "-"
    for _ in range(200):
        facts = client.get(f"/api/sets/{set_id}/facts").json()["facts"]
        status = facts[0]["status"] if facts else "-"
        if status in wanted:
            break
        time.sleep(0.05)
    return status


def test_a_legend_that_comes_later_is_read(client: TestClient, folder: Path) -> None:
    make_set(folder, "masks")
    (folder / "masks").mkdir()
    set_id = find_set(client)
    (clip,) = client.get(f"/api/sets/{set_id}/clips").json()["clips"]
    (folder / "masks" / "legend.json").write_text(json.dumps({"subject": 3}))
    mask = Image.fromarray(np.full((32, 32), 3, np.uint8))
    mask.putpalette([0, 0, 0, 9, 9, 9, 8, 8, 8, 200, 100, 0])
    mask.save(folder / "masks" / "a.png")
    client.get(f"/api/sets/{set_id}/queue?anew=true")
    answer = client.get(f"/api/clips/{clip['id']}/overlay?size=256")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/webp"


def test_a_set_without_masks_is_given_a_folder(client: TestClient, folder: Path) -> None:
    make_set(folder, "none")
    address = f"/api/sets/{find_set(client)}/masks"
    assert client.post(address).json() == {"masks": "masks"}
    assert 'masks = "masks"' in (folder / "frisket.toml").read_text()
    assert json.loads((folder / "masks/legend.json").read_text()) == {"subject": 1}
    (clip,) = client.get(f"/api/sets/{find_set(client)}/clips").json()["clips"]
    info = json.loads(client.get(f"/api/clips/{clip['id']}/mask").headers["X-Frisket-Mask"])
    assert info["editable"]
    assert client.post(address).status_code == 422
