"""Captions: whole texts, conflicts, find and replace in many with a preview and an undo."""

from pathlib import Path

import pytest
from PIL import Image

from frisket.studio.sets.captions import CaptionEdit, add_tag, make_change, remove_tag


@pytest.fixture
def clips(folder: Path) -> Path:
    for name in ("a", "b", "c"):
        (folder / "clips").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / "clips" / f"{name}.png")
    (folder / "clips" / "a.txt").write_text("sks, a beach\n\nsecond paragraph\n")
    (folder / "clips" / "b.txt").write_text("sks, beach, BEACH")
    return folder / "clips"


@pytest.fixture
def set_id(clips, client) -> str:
    return client.get("/api/workspace").json()["sets"][0]["id"]


@pytest.fixture
def ids(set_id, client) -> dict[str, str]:
    rows = client.get(f"/api/sets/{set_id}/clips").json()["clips"]
    return {row["name"]: row["id"] for row in rows}


def test_a_caption_is_read_and_written_whole(clips, ids, client):
    path = f"/api/clips/{ids['a']}/caption"
    caption = client.get(path).json()
    assert caption["text"] == "sks, a beach\n\nsecond paragraph\n"
    others = {p: p.read_bytes() for p in clips.iterdir() if p.name != "a.txt"}
    text = "sks <b>on</b> a beach\n\nzweiter Absatz, é 猫"
    body = {"text": text, "revision": caption["revision"]}
    written = client.put(path, json=body).json()
    assert (clips / "a.txt").read_text("utf-8") == text + "\n"  # it ended so
    assert client.get(path).json()["revision"] == written["revision"]
    assert {p: p.read_bytes() for p in clips.iterdir() if p.name != "a.txt"} == others


def test_a_file_changed_meanwhile_is_not_overwritten(clips, ids, client):
    path = f"/api/clips/{ids['a']}/caption"
    revision = client.get(path).json()["revision"]
    (clips / "a.txt").write_text("by another")
    answer = client.put(path, json={"text": "mine", "revision": revision})
    assert answer.status_code == 409
    assert answer.json()["theirs"]["text"] == "by another"
    assert (clips / "a.txt").read_text() == "by another"
    theirs = answer.json()["theirs"]["revision"]
    assert client.put(path, json={"text": "mine", "revision": theirs}).status_code == 200


def test_a_new_caption_makes_its_file_and_an_empty_one_makes_none(clips, ids, client):
    path = f"/api/clips/{ids['c']}/caption"
    assert client.get(path).json()["revision"] == "none"
    client.put(path, json={"text": "", "revision": "none"})
    assert not (clips / "c.txt").exists()
    client.put(path, json={"text": "new", "revision": "none"})
    assert (clips / "c.txt").read_text() == "new"
    assert client.put(path, json={"text": "x", "revision": "none"}).status_code == 409


def test_hostile_texts_are_texts_or_refused(clips, ids, client):
    path = f"/api/clips/{ids['c']}/caption"
    for text in ("a\0b", "x" * (2 << 20)):
        assert client.put(path, json={"text": text, "revision": "none"}).status_code == 422
    lone = '{"text": "\\ud800", "revision": "none"}'
    headers = {"content-type": "application/json"}
    assert client.put(path, content=lone, headers=headers).status_code == 422
    assert not (clips / "c.txt").exists()


def test_find_and_replace_shows_does_and_takes_back(clips, set_id, ids, client):
    before = {path: path.read_bytes() for path in clips.iterdir()}
    body = {"ids": None, "action": "replace", "find": "beach", "replacement": "lake"}
    plan = client.post(f"/api/sets/{set_id}/captions/preview", json=body).json()
    assert plan["count"] == 2
    assert [change["after"] for change in plan["changes"]] == [
        "sks, a lake\n\nsecond paragraph\n",
        "sks, lake, BEACH",
    ]
    assert {path: path.read_bytes() for path in clips.iterdir()} == before
    done = client.post(
        f"/api/sets/{set_id}/captions/edit", json={**body, "digest": plan["digest"]}
    ).json()
    assert (done["count"], done["passed"]) == (2, [])
    assert (clips / "b.txt").read_text() == "sks, lake, BEACH"
    (clips / "a.txt").write_text("edited since")
    back = client.post(f"/api/sets/{set_id}/captions/undo/{done['undo']}").json()
    assert back == {"count": 1, "passed": ["a"]}
    assert (clips / "b.txt").read_bytes() == before[clips / "b.txt"]
    assert (clips / "a.txt").read_text() == "edited since"


def test_an_edit_that_was_not_shown_is_refused(clips, set_id, client):
    body = {"ids": None, "action": "add", "tag": "outdoors"}
    plan = client.post(f"/api/sets/{set_id}/captions/preview", json=body).json()
    (clips / "b.txt").write_text("changed")
    answer = client.post(
        f"/api/sets/{set_id}/captions/edit", json={**body, "digest": plan["digest"]}
    )
    assert answer.status_code == 409
    assert (clips / "b.txt").read_text() == "changed"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"action": "replace", "find": ""}, "find"),
        ({"action": "replace", "find": "(", "regex": True}, "pattern"),
        ({"action": "replace", "find": "a", "replacement": "\\9", "regex": True}, "replace"),
        ({"action": "add", "tag": "a, b"}, "comma"),
    ],
)
def test_edits_without_a_meaning_say_so(clips, set_id, client, body, word):
    answer = client.post(f"/api/sets/{set_id}/captions/preview", json={"ids": None, **body})
    assert answer.status_code == 422
    assert word in answer.json()["error"]


def test_tags_are_added_and_removed_without_touching_the_rest():
    assert add_tag("sks, beach\n", "sun", first=False) == "sks, beach, sun\n"
    assert add_tag("sks, beach", "Sun", first=True) == "Sun, sks, beach"
    assert add_tag("sks, Beach", "beach", first=False) == "sks, Beach"
    assert add_tag("", "sun", first=False) == "sun"
    assert remove_tag("sks,  beach , sun", "BEACH") == "sks, sun"
    assert remove_tag("beach, sks", "beach") == "sks"
    assert remove_tag("sks", "beach") == "sks"
    plain = make_change(CaptionEdit("replace", "a.c", r"\1"))
    assert plain("abc a.c") == r"abc \1"
    loose = make_change(CaptionEdit("replace", "BEACH", "lake", ignore_case=True))
    assert loose("a beach") == "a lake"
