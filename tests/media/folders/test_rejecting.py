from pathlib import Path

import pytest
from PIL import Image

from frisket.media.files import find
from frisket.media.folders.rejecting import (
    BadRejects,
    list_place,
    read_lines,
    read_rejects,
    write_rejects,
)
from frisket.media.paths import collecting


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "set" / "clips"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "set" / "masks" / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
        Image.new("L", (8, 8), 255).save(tmp_path / "set" / "masks" / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"clip {name}")
    return folder


def search(clips: Path, reject: Path | None, **options):
    masks = clips.parent / "masks"
    return find(clips, masks="folder", folders={"": masks}, reject=reject, **options)


def test_rejected_clips_are_left_out_whole_and_told_once(clips):
    rejects = clips.parent / "rejected.txt"
    rejects.write_text("# a head\n\nsub/c.png\nb\n b \ngone\n", "utf-8")
    (clips / "b.txt").write_bytes(b"\xff\xff\xff")  # what is left out is not read
    with collecting() as errors:
        findings = search(clips, rejects)
    assert not errors
    assert [clip.name for clip in findings.clips] == ["a"]
    assert findings.rejected == ("b", "sub/c")
    assert not findings.orphans  # their masks have a clip
    messages = [hint.message for hint in findings.hints if hint.kind == "rejected"]
    assert messages == [
        f"2 clips are rejected by {rejects} (b, sub/c)",
        f"1 line names no clip in {rejects} (gone)",
    ]


def test_without_a_list_nothing_changes(clips):
    findings = search(clips, None)
    assert findings.rejected == ()
    assert [clip.name for clip in findings.clips] == ["a", "b", "sub/c"]


def test_a_list_of_captions_may_name_rejected_clips(clips, caplog):
    captions = clips.parent / "captions.jsonl"
    captions.write_text('{"file": "a.png", "text": "one"}\n{"file": "b.png", "text": "two"}\n')
    rejects = clips.parent / "rejected.txt"
    write_rejects(rejects, ["b"])
    findings = search(clips, rejects, captions=captions)
    assert [clip.caption for clip in findings.clips] == ["one", ""]
    assert "no clip" not in caplog.text


def test_a_manifest_obeys_it_too(clips):
    manifest = clips.parent / "set.jsonl"
    manifest.write_text('{"path": "clips/a.png"}\n{"path": "clips/b.png"}\n')
    rejects = list_place(manifest)
    assert rejects.name == "set.jsonl.rejected.txt"
    write_rejects(rejects, ["clips/b"])
    findings = find(manifest, masks="listed", folders={}, reject=rejects)
    assert [clip.name for clip in findings.clips] == ["clips/a"]
    assert findings.rejected == ("clips/b",)


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "rejected.txt"
    names = ["sub/über", "a b", "#1", "take.1"]
    write_rejects(path, names)
    assert read_lines(path) == sorted(names)
    assert read_rejects(path, dict.fromkeys([*names, "x"])).names == frozenset(names)
    write_rejects(path, [])
    assert read_rejects(path, {"x": None}).names == frozenset()
    with pytest.raises(ValueError, match="rename the clip"):
        write_rejects(path, ["a\nb"])


def test_bad_lists_name_the_file_and_the_fix(clips, tmp_path):
    with pytest.raises(BadRejects, match=r"no such list.*take `reject` out"):
        search(clips, tmp_path / "none.txt")
    path = tmp_path / "rejected.txt"
    path.write_text("a\nb\nsub/c\n")
    with pytest.raises(BadRejects, match="rejects all 3 clips"):
        search(clips, path)
    path.write_bytes(b"\xe9t\xe9")
    with pytest.raises(BadRejects):
        search(clips, path)
