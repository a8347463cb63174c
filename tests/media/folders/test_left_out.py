"""Every file of a folder of clips is read or counted aloud, by suffix and name."""

from pathlib import Path

import pytest
from PIL import Image

from frisket.media.captions import Wording
from frisket.media.files import ClipsNotFound, find
from frisket.media.frames import BadMedia, decode, probe
from frisket.media.stills import readers


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg"):
            Image.new("RGB", (8, 8)).save(path)
        else:
            path.write_bytes(b"not read")
    return root


def hints(root: Path, **how: object) -> dict[str, str]:
    found = find(root, masks="none", folders={}, **how)
    return {one.kind: str(one) for one in found.hints}


def test_unknown_files_are_counted_by_suffix_and_name(tmp_path):
    make(tmp_path, "a.png", "b.psd", "c.psd", "sub/d.xcf", "notes.md", "a.txt", "Thumbs.db")
    told = hints(tmp_path)["left out"]
    assert told.startswith("4 files (2 .psd: b.psd, c.psd; 1 .md: notes.md; 1 .xcf: d.xcf) are")
    assert "Thumbs" not in told


def test_plain_data_is_no_warning(tmp_path):
    make(tmp_path, "a.png", "a_sdxl.npz", "dataset.toml")
    (one,) = find(tmp_path, masks="none", folders={}).hints
    assert not one.grave
    assert "2 files" in one.message


def test_camera_raw_is_named_and_not_read(tmp_path):
    told = hints(make(tmp_path, "a.png", "b.CR2", "c.nef"))["left out"]
    assert "b.CR2" in told
    assert "develop camera raw" in told.lower()


@pytest.mark.parametrize("suffix", [".heic", ".HEIF", ".jxl"])
def test_what_a_package_would_read_names_it(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(readers, "has", lambda _: False)
    make(tmp_path, "a.png", f"b{suffix}")
    told = hints(tmp_path)["left out"]
    assert "pip install 'frisket[photos]'" in told
    assert readers.NEEDS[suffix.lower()][1] in told
    with pytest.raises(ClipsNotFound, match=r"frisket\[photos\]"):
        find(make(tmp_path / "alone", f"b{suffix}"), masks="none", folders={})


def test_heic_under_another_name_says_what_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "has", lambda _: False)
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    with pytest.raises(BadMedia, match=r"a\.jpg: is HEIF, .* pillow-heif, .*frisket\[photos\]"):
        probe(path)


@pytest.mark.parametrize(
    ("suffix", "form"),
    [(".jfif", "JPEG"), (".jpe", "JPEG"), (".mpo", "MPO"), (".apng", "PNG"), (".jp2", "JPEG2000")],
)
def test_more_names_of_known_formats_are_clips(tmp_path, suffix, form):
    Image.new("RGB", (24, 16), (200, 40, 40)).save(tmp_path / f"a{suffix}", format=form)
    (one,) = find(tmp_path, masks="none", folders={}).clips
    assert probe(one.clip).width == 24
    assert abs(int(decode(one.clip)[0, 0, 0, 0]) - 200) < 4


@pytest.mark.parametrize("folder", ["@eaDir", "$RECYCLE.BIN", "#recycle", "lost+found", "__MACOSX"])
def test_folders_of_systems_and_drives_hold_no_clips(tmp_path, folder):
    make(tmp_path, "a.png", f"{folder}/a.png", f"sub/{folder}/b.jpg", "sub/c.png")
    found = find(tmp_path, masks="none", folders={})
    assert [one.name for one in found.clips] == ["a", "sub/c"]
    (one,) = found.hints
    assert one.message.startswith("2 folders")
    assert folder in one.message


def test_hidden_bins_are_counted_once(tmp_path):
    assert ".Trash-1000" in hints(make(tmp_path, "a.png", ".Trash-1000/b.png"))["folder skipped"]


def test_a_mask_among_the_clips_is_pointed_at(tmp_path):
    make(tmp_path, "a.png", "a_mask.png", "b.jpg", "b-Mask.png", "unmasked.png", "c_mask.png")
    told = hints(tmp_path)["mask among the clips"]
    assert told.startswith("2 files")
    assert "a_mask.png, b-Mask.png" in told


@pytest.mark.parametrize("suffix", [".caption", ".tags", ".json"])
def test_captions_of_another_suffix_are_pointed_at(tmp_path, suffix):
    make(tmp_path, "a.png", "b.png", f"a{suffix}", f"b{suffix}")
    told = hints(tmp_path)["captions not read"]
    assert f"2 {suffix}: a{suffix}, b{suffix}" in told
    assert ("caption_extension" in told) == (suffix != ".json")
    assert "captions not read" not in hints(tmp_path, wording=Wording(suffix))


def test_captions_that_are_cut_are_counted_with_a_name(tmp_path):
    make(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "a.txt").write_text("one two\n\nthree four five\n\nsix")
    (tmp_path / "b.txt").write_text("one\ntwo")
    (tmp_path / "c.txt").write_text("one\n\ntwo")
    told = hints(tmp_path)["caption cut"]
    assert told.startswith("2 captions are longer than the first paragraph")
    assert "a loses 4 words, all together lose 5" in told
    assert "caption cut" not in hints(tmp_path, wording=Wording(part="file"))
    assert "first line" in hints(tmp_path, wording=Wording(part="line"))["caption cut"]


def test_captions_of_a_list_are_counted_too(tmp_path):
    make(tmp_path / "clips", "a.png")
    manifest = tmp_path / "set.jsonl"
    manifest.write_text('{"image": "clips/a.png", "caption": "one\\n\\ntwo three"}\n')
    told = hints(manifest)["caption cut"]
    assert "a loses 2 words" in told
