"""A data set over the routes: listed as the trainer lists it, measured, kept, rejected, trashed."""

import io
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frisket.config.load import load
from frisket.evaluation.contact_sheet import REGION_COLOURS
from frisket.media.files import find
from frisket.studio.sets.plan import COLOURS
from frisket.studio.state import Studio

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
CONFIG = """# of mine
[model]
family = "pocket"

[[data]]
clips = "clips"  # all of them
masks = { source = "folder", path = "masks", legend = { face = 1, hair = 2 } }

[regions]
face = 1.0
hair = 0.5
background = 0.0
"""


def draw(path: Path, size=(64, 48), colour=(200, 120, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def label(path: Path, size=(64, 48)) -> None:
    """The left quarter is face, the right half hair."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.zeros((size[1], size[0]), np.uint8)
    ids[:, : size[0] // 4], ids[:, size[0] // 2 :] = 1, 2
    image = Image.fromarray(ids)
    image.putpalette(bytes(9))
    image.save(path)


def decode(body: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(body)) as image:
        return np.asarray(image.convert("RGBA"))


@pytest.fixture
def project(folder: Path) -> Path:
    (folder / "frisket.toml").write_text(CONFIG)
    for name in ("b", "a", "sub/c"):
        draw(folder / "clips" / f"{name}.png")
        (folder / "clips" / f"{name}.txt").write_text(f"sks, {name}, on a beach\n")
    label(folder / "masks" / "a.png")
    label(folder / "masks" / "sub" / "c.png")
    return folder


def first_set(client) -> str:
    return client.get("/api/workspace").json()["sets"][0]["id"]


def wait_for_facts(client, set_id: str) -> dict[str, dict]:
    for _ in range(200):
        answer = client.get(f"/api/sets/{set_id}/facts").json()
        if answer["measured"] == answer["total"] > 0:
            return {fact["id"]: fact for fact in answer["facts"]}
        time.sleep(0.02)
    raise AssertionError(answer)


def test_rows_are_the_trainers_clips_in_its_order(project, client):
    set_id = first_set(client)
    answer = client.get(f"/api/sets/{set_id}/clips").json()
    masks = {"": project / "masks"}
    found = find(project / "clips", masks="folder", folders=masks)
    assert [row["name"] for row in answer["clips"]] == [clip.name for clip in found.clips]
    assert [row["masked"] for row in answer["clips"]] == [bool(c.masks) for c in found.clips]
    assert [(r["id"], r["name"], r["weight"]) for r in answer["regions"]] == [
        (1, "face", 1.0),
        (2, "hair", 0.5),
    ]
    assert COLOURS == REGION_COLOURS


def test_facts_say_caption_mask_and_coverage(project, client):
    set_id = first_set(client)
    rows = {row["name"]: row for row in client.get(f"/api/sets/{set_id}/clips").json()["clips"]}
    facts = wait_for_facts(client, set_id)
    a, b = facts[rows["a"]["id"]], facts[rows["b"]["id"]]
    assert a["caption"] == "sks, a, on a beach\n"
    assert (a["status"], b["status"]) == ("hand", "none")
    assert a["coverage"] == {"face": 0.25, "hair": 0.5}
    assert a["size"] == [64, 48]
    (project / "clips" / "a.txt").write_text("other")
    number = client.get(f"/api/sets/{set_id}/facts").json()["number"]
    time.sleep(2.1)  # a listing is believed so long
    client.get(f"/api/sets/{set_id}/clips")
    for _ in range(100):
        news = client.get(f"/api/sets/{set_id}/facts", params={"since": number}).json()["facts"]
        if news:
            break
        time.sleep(0.02)
    assert [fact["caption"] for fact in news] == ["other"]


def test_pictures_are_upright_cached_and_failures_remembered(project, client):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32), (10, 200, 10)).save(project / "clips" / "turned.jpg", exif=exif)
    (project / "clips" / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    set_id = first_set(client)
    rows = {row["name"]: row for row in client.get(f"/api/sets/{set_id}/clips").json()["clips"]}

    def ask(name: str, kind: str = "thumb", **headers):
        path = f"/api/clips/{rows[name]['id']}/{kind}"
        return client.get(path, params={"size": 128}, headers=headers)

    thumb = ask("turned")
    assert thumb.headers["content-type"] == "image/webp"
    assert decode(thumb.content).shape[:2] == (64, 32)
    assert ask("turned", **{"if-none-match": thumb.headers["etag"]}).status_code == 304
    pixels = decode(ask("a", "overlay").content)
    assert tuple(pixels[20, 5][:3]) == REGION_COLOURS[0]
    assert pixels[20, 20][3] == 0
    assert tuple(pixels[20, 60][:3]) == REGION_COLOURS[1]
    assert ask("b", "overlay").status_code == 204
    broken = ask("broken")
    assert broken.status_code == 422
    assert "broken.jpg" in broken.json()["error"]
    assert ask("broken").json() == broken.json()


def test_a_rejected_clip_is_left_out_by_the_trainer_and_comes_back(project, client):
    set_id = first_set(client)
    rows = {row["name"]: row for row in client.get(f"/api/sets/{set_id}/clips").json()["clips"]}
    body = {"ids": [rows["b"]["id"], rows["sub/c"]["id"]], "rejected": True}
    answer = client.post(f"/api/sets/{set_id}/reject", json=body).json()
    assert answer == {"list": "clips.rejected.txt", "obeyed": True, "count": 2}
    text = (project / "frisket.toml").read_text()
    assert "# of mine" in text
    assert "# all of them" in text
    data = load(project / "frisket.toml").data[0]
    clips = find(data.clips, masks="folder", folders={"": data.masks.path}, reject=data.reject)
    assert [clip.name for clip in clips.clips] == ["a"]
    assert clips.rejected == ("b", "sub/c")
    listed = client.get(f"/api/sets/{set_id}/clips").json()["clips"]
    assert [row["rejected"] for row in listed] == [False, True, True]
    body = {"ids": [rows["b"]["id"]], "rejected": False}
    client.post(f"/api/sets/{set_id}/reject", json=body)
    assert (project / "clips.rejected.txt").read_text().splitlines()[1:] == ["sub/c"]
    unknown = client.post(f"/api/sets/{set_id}/reject", json={"ids": ["x"], "rejected": True})
    assert unknown.status_code == 404


def test_repeats_are_written_and_nonsense_is_refused(project, client):
    set_id = first_set(client)
    assert client.patch(f"/api/sets/{set_id}", json={"repeats": 7}).json()["repeats"] == 7
    assert load(project / "frisket.toml").data[0].repeats == 7
    assert "# all of them" in (project / "frisket.toml").read_text()
    assert client.patch(f"/api/sets/{set_id}", json={"repeats": 0}).status_code == 422


def test_trash_takes_all_of_a_clip_and_gives_it_back(project, client):
    set_id = first_set(client)
    rows = {row["name"]: row for row in client.get(f"/api/sets/{set_id}/clips").json()["clips"]}
    before = {path: path.read_bytes() for path in project.rglob("*.*") if path.is_file()}
    body = {"ids": [rows["sub/c"]["id"]]}
    trashed = client.post(f"/api/sets/{set_id}/trash", json=body).json()
    assert trashed["names"] == ["sub/c"]
    assert not list(project.glob("clips/sub/*"))
    assert not list(project.glob("masks/sub/*"))
    names = [row["name"] for row in client.get(f"/api/sets/{set_id}/clips").json()["clips"]]
    assert names == ["a", "b"]
    draw(project / "clips" / "sub" / "c.png", colour=(0, 0, 0))
    taken = client.post(f"/api/sets/{set_id}/trash/{trashed['id']}/restore")
    assert taken.status_code == 422
    assert "another file has this name" in taken.json()["error"]
    (project / "clips" / "sub" / "c.png").unlink()
    client.post(f"/api/sets/{set_id}/trash/{trashed['id']}/restore")
    after = {path: path.read_bytes() for path in project.rglob("*.*") if path.is_file()}
    assert after == before
    for name in ("..", "%2e%2e", "nothing"):
        assert client.post(f"/api/sets/{set_id}/trash/{name}/restore").status_code in (404, 405)


def test_what_is_wrong_with_a_set_is_a_finding(folder, client):
    (folder / "frisket.toml").write_text(CONFIG.replace("hair = 0.5", "hair = -1"))
    draw(folder / "clips" / "a.png")
    draw(folder / "clips" / "a.jpg")
    draw(folder / "clips" / "b.png")
    (folder / "clips" / "b.txt").write_bytes(b"\xe9t\xe9")
    set_id = first_set(client)
    answer = client.get(f"/api/sets/{set_id}/clips").json()
    kinds = {finding["kind"] for finding in answer["findings"]}
    assert {"config", "ambiguous"} <= kinds
    facts = wait_for_facts(client, set_id)
    assert any(f["kind"] == "caption encoding" for x in facts.values() for f in x["findings"])


def test_a_manifest_is_a_set_too(project, client):
    lines = [{"path": "clips/a.png", "mask": "masks/a.png"}, {"path": "clips/b.png", "text": "hi"}]
    (project / "set.jsonl").write_text("\n".join(map(json.dumps, lines)))
    text = CONFIG.replace('clips = "clips"', 'clips = "set.jsonl"').replace(
        'source = "folder", path = "masks"', 'source = "listed"'
    )
    (project / "frisket.toml").write_text(text)
    set_id = first_set(client)
    rows = client.get(f"/api/sets/{set_id}/clips").json()["clips"]
    assert [row["name"] for row in rows] == ["clips/a", "clips/b"]
    facts = wait_for_facts(client, set_id)
    assert facts[rows[0]["id"]]["coverage"] == {"face": 0.25, "hair": 0.5}
    assert facts[rows[1]["id"]]["caption"] == "hi"
    locked = client.get(f"/api/clips/{rows[1]['id']}/caption").json()
    assert not locked["editable"]
    assert "list" in locked["why"]


def test_the_example_photos_read_by_levels(folder, client):
    shutil.copytree(PHOTOS, folder, dirs_exist_ok=True)
    sets = client.get("/api/workspace").json()["sets"]
    facts = wait_for_facts(client, sets[0]["id"])
    for fact in facts.values():
        assert set(fact["coverage"]) == {"face", "body", "hair"}
        assert 0.02 < fact["coverage"]["face"] < 0.5


def test_findings_of_inspect_stand_beside_their_clips(project, client):
    out = load(project / "frisket.toml").run.output / "inspect"
    out.mkdir(parents=True)
    rows = [
        {"kind": "tiny", "severity": "warning", "clip": "a", "sentence": "small", "fix": "crop"},
        {"kind": "unused region", "severity": "warning", "clip": "", "sentence": "x", "fix": "y"},
    ]
    (out / "findings.json").write_text(json.dumps(rows))
    set_id = first_set(client)
    answer = client.get(f"/api/sets/{set_id}/clips").json()
    assert [f["kind"] for f in answer["findings"]] == ["unused region"]
    facts = wait_for_facts(client, set_id)
    ids = {row["id"]: row["name"] for row in answer["clips"]}
    kinds = {ids[i]: [f["kind"] for f in fact["findings"]] for i, fact in facts.items()}
    assert kinds == {"a": ["tiny"], "b": [], "sub/c": []}
    config = client.get("/api/workspace").json()["configs"][0]["id"]
    assert client.get(f"/api/configs/{config}/findings").json()["counts"] == {"warning": 2}


def test_the_cache_of_pictures_lies_elsewhere(project, client):
    studio: Studio = client.app.state.studio
    set_id = first_set(client)
    row = client.get(f"/api/sets/{set_id}/clips").json()["clips"][0]
    client.get(f"/api/clips/{row['id']}/thumb")
    assert list(studio.cache.rglob("*.webp"))
    assert not list(project.rglob("*.webp"))
