"""A manifest lists what belongs together; what is wrong with it is told by its line."""

import codecs
import json
import logging
import unicodedata

import pytest

from frisket.media.captions import BadCaption
from frisket.media.files import MasksNotFound, TwoFiles, find
from frisket.media.folders.references import ReferencesNotFound, check_references
from frisket.media.manifest import LONGEST, PATH_KEYS, TEXT_KEYS, BadManifest, read_manifest


@pytest.fixture
def listed(tmp_path):
    """Write a manifest of these lines; every file it names is there, empty."""

    def write(*lines, name="set/set.jsonl", make=True):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        for file in (file for line in lines for file in files_of(line) if make):
            (path.parent / file).parent.mkdir(parents=True, exist_ok=True)
            (path.parent / file).touch()
        return path

    return write


def files_of(line):
    masks = line.get("mask") or {}
    yield from (line[key] for key in PATH_KEYS if key in line)
    yield from masks.values() if isinstance(masks, dict) else [masks]
    yield from line.get("references") or []


def raw(tmp_path, content):
    (tmp_path / "a.png").touch()
    (tmp_path / "set.jsonl").write_bytes(content)
    return tmp_path / "set.jsonl"


def test_a_line_holds_all_that_belongs_to_a_clip(listed):
    path = listed(
        {
            "path": "b/walk.1.mp4",
            "caption": "two\nlines",
            "mask": {"face": "f.mkv", "hair": "h.mkv"},
        },
        {"path": "a.png", "mask": "masks/a.png", "references": ["r/1.png", "r/0.png"]},
    )
    first, second = read_manifest(path)
    folder = path.parent
    assert (first.name, first.number, first.clip) == ("a", 2, folder / "a.png")
    assert first.caption is None
    assert first.masks == {"": folder / "masks/a.png"}
    assert first.references == (folder / "r/1.png", folder / "r/0.png")
    assert (second.name, second.caption) == ("b/walk.1", "two\nlines")
    assert second.masks == {"face": folder / "f.mkv", "hair": folder / "h.mkv"}


@pytest.mark.parametrize("key", PATH_KEYS)
@pytest.mark.parametrize("text", TEXT_KEYS)
def test_the_keys_of_other_tools_are_read(listed, key, text):
    (line,) = read_manifest(listed({key: "a.webp", text: "said"}))
    assert (line.name, line.caption) == ("a", "said")


def test_names_are_stable_unique_and_in_order(listed, tmp_path):
    (tmp_path / "far").mkdir()
    lines = [{"path": f"../far/{sub}/a.png"} for sub in "xy"]
    lines += [{"path": "sub/../here.png"}, {"path": "./c.png", "name": "z/own.name"}]
    lines += [{"path": str(tmp_path / "set" / "whole.png")}, {"path": "N\u0303.png"}]
    names = [line.name for line in read_manifest(listed(*lines))]
    assert names == sorted(names)
    assert {"here", "whole", "z/own.name", unicodedata.normalize("NFC", "N\u0303")} < set(names)
    far = [name for name in names if name.startswith("a-")]
    assert len(far) == 2
    assert all(len(name) == len("a-") + 8 for name in far)
    assert [one.name for one in read_manifest(listed(*reversed(lines)))] == names


def test_a_folder_of_frames_is_a_clip_or_a_mask(listed, tmp_path):
    for name in ("set/clip.v1/0.png", "set/masks/clip.v1/0.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    path = listed({"path": "clip.v1", "mask": "masks/clip.v1"}, make=False)
    (line,) = read_manifest(path)
    assert line.name == "clip.v1"
    assert line.masks == {"": path.parent / "masks/clip.v1"}


def test_two_lines_of_one_clip_or_one_name_are_refused(listed):
    with pytest.raises(TwoFiles, match=r"lines 1 and 2 list the same clip"):
        read_manifest(listed({"path": "a.png"}, {"path": "sub/../a.png"}, {"path": "sub/b.png"}))
    with pytest.raises(TwoFiles, match=r"lines 1 and 2 have the name 'a'.*`name`"):
        read_manifest(listed({"path": "a.png"}, {"path": "a.jpg"}))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"path": "gone.png"}', r"line 2: `path` .*gone\.png does not exist"),
        ('{"path": "a.png", "mask": "m.png"}', r"line 2: `mask` .*m\.png does not exist"),
        ('{"path": "a.png", "mask": {"hat": "m.png"}}', r"line 2: `mask\.hat` .*m\.png"),
        ('{"path": "a.png", "references": ["r.png"]}', r"line 2: `references` .*r\.png"),
        ('{"path": "sub\\\\a.png"}', r"does not exist; write / instead of \\"),
        ('{"path": "set.jsonl"}', r"`path` .*set\.jsonl is no image or video"),
        ('{"path": 3}', r"`path` is 3; it should be text"),
        ('{"caption": "x"}', r"line 2: names no clip; give one of path, .*it has 'caption'"),
        ('{"path": "a.png", "image": "b.png"}', r"gives a clip twice, as path and image"),
        ('{"path": "a.png", "path": "b.png"}', r"has the key 'path' twice"),
        ('{"path": "a.png", "mask": 3}', r"`mask` is 3; it should be a path"),
        ('{"path": "a.png", "mask": {"": "a.png"}}', r"a region without a name"),
        ('{"path": "a.png", "name": "../a"}', r"`name` is '\.\./a'; it should be a path below"),
        ('{"path": "a.png"', r"line 2: not JSON .*column"),
        ('[{"path": "a.png"},', r"jq -c '\.\[\]' makes lines"),
        ('["a.png"]', r"line 2: is \[\"a\.png\"\]; write an object"),
        ('{"path": "\\ud800.png"}', r"line 2: not JSON \(holds half a letter"),
        ("[" * 100_000, r"line 2: not JSON \(is nested too deeply"),
    ],
)
def test_what_is_wrong_is_told_by_line(tmp_path, line, said):
    path = raw(tmp_path, b"\n" + line.encode())
    with pytest.raises(BadManifest, match=said):
        read_manifest(path)


def test_bom_crlf_blank_lines_and_no_last_newline(tmp_path):
    path = raw(tmp_path, codecs.BOM_UTF8 + b'\r\n  \r\n{"path": "a.png", "caption": "x"}')
    assert [line.number for line in read_manifest(path)] == [3]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"path": "a.png", "caption": "caf\xe9"}', "line 1: byte 0xe9 is not UTF-8"),
        ('{"path": "a.png"}'.encode("utf-16"), "line 1: is UTF-16"),
        (b'{"path": "' + b"a" * LONGEST + b'"}', "line 1: longer than"),
        (b"\n \n", "lists no clip"),
        (b"", "lists no clip"),
    ],
)
def test_what_is_no_manifest_is_told(tmp_path, content, said):
    with pytest.raises(BadManifest, match=said):
        read_manifest(raw(tmp_path, content))
    with pytest.raises(BadManifest, match="there is no such manifest"):
        read_manifest(tmp_path / "gone.jsonl")


def test_find_takes_what_is_listed(listed, tmp_path, caplog):
    path = listed(
        {"path": "a.png", "caption": "first\nline\n\nnot this", "mask": "m/a.png"},
        {"path": "b.png", "width": 3},
        {"path": "c.png", "caption": ""},
    )
    (path.parent / "b.txt").write_text("beside")
    with caplog.at_level(logging.INFO):
        findings = find(path, masks="listed", folders={}, caption="for all")
    assert "lists masks for 1 of 3 clips" in caplog.text
    assert "keys that are not read: width" in caplog.text
    assert [one.caption for one in findings.clips] == ["first line", "beside", "for all"]
    assert [dict(one.masks) for one in findings.clips] == [{"": path.parent / "m/a.png"}, {}, {}]
    raw_texts = find(path, masks="listed", folders={}, paragraph=False).clips
    assert raw_texts[0].caption == "first\nline\n\nnot this"


def test_the_config_may_name_other_masks_and_captions(listed, tmp_path, caplog):
    path = listed({"path": "a.png", "mask": "m/a.png", "caption": "old"}, {"path": "b.png"})
    for name in ("other/a.png", "other/gone.png", "texts/b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("new")
    findings = find(
        path, masks="folder", folders={"": tmp_path / "other"}, captions=tmp_path / "texts"
    )
    assert "lists 1 masks that are not used" in caplog.text
    assert dict(findings.clips[0].masks) == {"": tmp_path / "other/a.png"}
    assert [one.caption for one in findings.clips] == ["", "new"]
    assert findings.orphans == [tmp_path / "other/gone.png"]
    with pytest.raises(MasksNotFound, match="give each line of the manifest its `mask`"):
        find(path, masks="sidecar", folders={})
    with pytest.raises(MasksNotFound, match="this is a folder"):
        find(path.parent, masks="listed", folders={})
    with pytest.raises(BadCaption, match="captions none of the 2 clips"):
        find(path, masks="none", folders={}, captions=tmp_path / "other")


def test_references_are_those_of_the_line_and_none_may_lack_them(listed):
    path = listed({"path": "a.png", "references": ["r.png"]}, {"path": "b.png"})
    found = {one.name: one.references for one in find(path, masks="listed", folders={}).clips}
    assert found == {"a": (path.parent / "r.png",), "b": ()}
    with pytest.raises(ReferencesNotFound, match="no reference picture for b; give each line"):
        check_references(path, found)
