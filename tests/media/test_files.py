"""Clips and masks that belong together are found, and nothing is lost silently."""

import logging
import unicodedata

import numpy as np
import pytest

from frisket.media.files import ClipsNotFound, MasksNotFound, TwoFiles, find
from frisket.media.frames import BadMedia


@pytest.fixture
def touch(tmp_path):
    """Make empty files below the temporary folder; finding opens none of them."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def masked(root, **options):
    return find(root / "clips", masks="folder", folders={"": root / "masks"}, **options)


def names(findings):
    return [one.name for one in findings.clips]


def test_masks_match_by_stem_in_sub_folders_whatever_the_suffix(touch):
    root = touch(
        *("clips/a.jpg", "clips/sub/a.png", "clips/sub/deep/b.MP4", "clips/c.webp"),
        *("masks/a.png", "masks/sub/a.TIFF", "masks/sub/deep/b.mkv"),
    )
    findings = masked(root)
    assert names(findings) == ["a", "c", "sub/a", "sub/deep/b"]
    assert [dict(one.masks) for one in findings.clips] == [
        {"": root / "masks/a.png"},
        {},
        {"": root / "masks/sub/a.TIFF"},
        {"": root / "masks/sub/deep/b.mkv"},
    ]
    assert findings.orphans == []
    assert not any(one.alpha for one in findings.clips)


def test_a_folder_of_frames_is_one_mask(touch):
    root = touch(
        *("clips/walk.mp4", "clips/sub/run.1.mp4", "clips/sub/still.png"),
        *(
            "masks/walk/000.png",
            "masks/walk/001.png",
            "masks/sub/run.1/0.png",
            "masks/sub/still.png",
        ),
    )
    found = {one.name: dict(one.masks) for one in masked(root).clips}
    assert found["walk"] == {"": root / "masks/walk"}
    assert found["sub/run.1"] == {"": root / "masks/sub/run.1"}
    assert found["sub/still"] == {"": root / "masks/sub/still.png"}


def test_orphan_masks_are_listed_whole_folders_once(touch):
    root = touch(
        "clips/a.png", "masks/a.png", "masks/typo.png", "masks/gone/0.png", "masks/gone/1.png"
    )
    assert masked(root).orphans == [root / "masks/gone", root / "masks/typo.png"]


def test_one_folder_a_region(touch):
    root = touch(
        "clips/a.png", "clips/b.png", "face/a.png", "hair/a.png", "hair/b.png", "hair/x.png"
    )
    folders = {"face": root / "face", "hair": root / "hair"}
    findings = find(root / "clips", masks="regions", folders=folders)
    assert [list(one.masks) for one in findings.clips] == [["face", "hair"], ["hair"]]
    assert findings.orphans == [root / "hair/x.png"]
    (root / "face/a.png").unlink()
    with pytest.raises(
        MasksNotFound, match=r"face \(region 'face'\): no mask matches any of the 2"
    ):
        find(root / "clips", masks="regions", folders=folders)


def test_sidecars_beside_the_clips(touch):
    root = touch(
        *("clips/a.jpg", "clips/a.mask.png", "clips/sub/b.mp4", "clips/sub/b.mask.mkv"),
        *("clips/c.mp4", "clips/c.mask/000.png", "clips/d.e.png", "clips/d.e-masklabel.png"),
        *("clips/d.e-condlabel.png", "clips/none.png", "clips/gone.mask.png"),
    )
    findings = find(root / "clips", masks="sidecar", folders={})
    assert {one.name: [path.name for path in one.masks.values()] for one in findings.clips} == {
        "a": ["a.mask.png"],
        "c": ["c.mask"],
        "d.e": ["d.e-masklabel.png"],
        "none": [],
        "sub/b": ["b.mask.mkv"],
    }
    assert findings.orphans == [root / "clips/gone.mask.png"]


def test_masks_are_never_taken_for_clips(touch, caplog):
    root = touch(
        "clips/a.png",
        "clips/a.mask.png",
        "clips/masks/a.png",
        "clips/.cache/x.png",
        "clips/._a.png",
    )
    inside = find(root / "clips", masks="folder", folders={"": root / "clips/masks"})
    assert names(inside) == ["a"]
    with caplog.at_level(logging.WARNING):
        assert names(find(root / "clips", masks="none", folders={})) == ["a", "masks/a"]
    assert "1 masks lie beside the clips and are not used" in caplog.text


def test_alpha_marks_clips_that_have_it(tmp_path, picture):
    picture(tmp_path / "a.png", np.full((4, 4, 4), 255, np.uint8))
    picture(tmp_path / "b.jpg")
    findings = find(tmp_path, masks="alpha", folders={})
    assert [(one.name, one.alpha, dict(one.masks)) for one in findings.clips] == [
        ("a", True, {}),
        ("b", False, {}),
    ]
    (tmp_path / "a.png").unlink()
    with pytest.raises(MasksNotFound, match=r"none of the 1 clips \(such as b\.jpg\) has an alpha"):
        find(tmp_path, masks="alpha", folders={})
    (tmp_path / "c.png").touch()
    with pytest.raises(BadMedia, match=r"c\.png: the file is empty"):
        find(tmp_path, masks="alpha", folders={})


def test_a_mask_source_that_matches_nothing_stops_the_run(touch):
    root = touch("clips/person 01.jpg", "masks/person_01_mask.png")
    with pytest.raises(MasksNotFound) as error:
        masked(root)
    assert str(error.value) == (
        f"masks {root}/masks: no mask matches any of the 1 clips; a clip is 'person 01', a mask"
        " there is 'person_01_mask'; a mask needs its clip's name and sub-folder, with any image or"
        " video suffix"
    )
    with pytest.raises(MasksNotFound, match="a clip is 'person 01', no mask is there"):
        find(root / "clips", masks="sidecar", folders={})
    with pytest.raises(
        MasksNotFound, match=r"nowhere: there is no such folder; a clip is 'person 01'"
    ):
        find(root / "clips", masks="folder", folders={"": root / "nowhere"})
    with pytest.raises(MasksNotFound, match="is the clip folder itself"):
        find(root / "clips", masks="folder", folders={"": root / "clips"})


def test_names_with_spaces_unicode_and_dots(touch):
    decomposed, composed = (unicodedata.normalize(form, "Zoë") for form in ("NFD", "NFC"))
    long = "x" * 240
    root = touch(
        *(f"clips/{decomposed}/my clip.v2.final.jpg", f"clips/{long}.png", "clips/日本 語.webp"),
        *(f"masks/{composed}/my clip.v2.final.png", f"masks/{long}.png", "masks/日本 語.png"),
        *("masks/my clip.png", f"clips/{decomposed}/my clip.v2.final.txt"),
    )
    (root / f"clips/{decomposed}/my clip.v2.final.txt").write_text("a walk")
    findings = masked(root)
    assert names(findings) == [f"{composed}/my clip.v2.final", long, "日本 語"]
    assert all(one.masks for one in findings.clips)
    assert findings.clips[0].caption == "a walk"
    assert findings.orphans == [root / "masks/my clip.png"]


def test_two_files_of_one_stem_are_named(touch):
    root = touch("clips/a.jpg", "clips/sub/a.png", "masks/a.png", "masks/a.jpg")
    with pytest.raises(
        TwoFiles, match=r"two masks have the name 'a': .*masks/a\.jpg and .*masks/a\.png"
    ):
        masked(root)
    touch("clips/a.png")
    with pytest.raises(
        TwoFiles, match=r"two clips have the name 'a': .*clips/a\.jpg and .*clips/a\.png"
    ):
        masked(root)


def test_two_names_that_look_the_same_are_named(touch):
    decomposed, composed = (unicodedata.normalize(form, "é") for form in ("NFD", "NFC"))
    root = touch(f"clips/{decomposed}.png", f"clips/{composed}.png")
    with pytest.raises(TwoFiles, match="two clips have the name 'é'"):
        find(root / "clips", masks="none", folders={})


def test_a_mask_file_and_a_mask_folder_of_one_stem_are_named(touch):
    root = touch("clips/a.mp4", "masks/a.mkv", "masks/a/000.png")
    with pytest.raises(TwoFiles, match=r"masks/a and .*masks/a\.mkv; rename or remove one"):
        masked(root)


def test_links_are_followed_and_loops_end(touch):
    root = touch("clips/a.png", "elsewhere/b.png", "masks/a.png")
    (root / "clips/more").symlink_to(root / "elsewhere")
    (root / "clips/loop").symlink_to(root / "clips")
    (root / "clips/c.png").symlink_to(root / "elsewhere/b.png")
    assert names(masked(root)) == ["a", "c", "more/b"]
    (root / "clips/d.png").symlink_to(root / "gone.png")
    with pytest.raises(
        ClipsNotFound, match=r"d\.png: a link to nothing \(.*gone\.png\); remove it"
    ):
        masked(root)


def test_links_that_lead_out_are_told(touch):
    root = touch("clips/a.png", "clips/a.txt", "masks/a.png", "away/b.png", "away/c.txt", "m/x.png")
    (root / "clips/b.png").symlink_to(root / "away/b.png")
    (root / "clips/c.png").symlink_to("a.png")  # stays within
    (root / "clips/c.txt").symlink_to(root / "away/c.txt")
    (root / "clips/more").symlink_to(root / "away")
    (root / "masks/b.png").symlink_to(root / "away/b.png")
    found = masked(root)
    told = {path.relative_to(root).as_posix() for path in found.outside}
    assert told == {"clips/b.png", "clips/c.txt", "clips/more/b.png", "masks/b.png"}
    whole = root / "whole"
    whole.symlink_to(root / "m")  # named on purpose
    assert not find(whole, masks="none", folders={}, caption="x").outside


def test_links_of_a_manifest_and_of_frames_are_told(touch):
    root = touch("set/a.png", "away/b.png", "set/frames/0.png", "set/b.txt")
    (root / "set/b.png").symlink_to(root / "away/b.png")
    (root / "set/frames/1.png").symlink_to(root / "away/b.png")
    manifest = root / "set/set.jsonl"
    paths = ("a.png", "b.png", "../away/b.png", "frames")
    lines = [f'{{"path": "{path}", "name": "n{place}"}}' for place, path in enumerate(paths)]
    manifest.write_text("\n".join(line for line in lines if "../" not in line))
    found = find(manifest, masks="listed", folders={})
    told = {path.relative_to(root).as_posix() for path in found.outside}
    assert told == {"set/b.png", "set/frames/1.png"}
    manifest.write_text(lines[2])  # named outright, no link
    assert not find(manifest, masks="listed", folders={}).outside


def test_empty_and_missing_clip_folders(touch):
    root = touch("clips/notes.txt", "masks/a.png", "file.png")
    with pytest.raises(
        ClipsNotFound,
        match=r"clips: holds no clip, sub-folders included; looked for .*\.jpg .*\.mp4",
    ):
        masked(root)
    with pytest.raises(
        ClipsNotFound, match="nowhere: there is no such folder of clips; check `clips`"
    ):
        find(root / "nowhere", masks="none", folders={})
    with pytest.raises(ClipsNotFound, match=r"file\.png: is a file; `clips` names the folder"):
        find(root / "file.png", masks="none", folders={})


def test_captions_defaults_and_the_uncaptioned(touch):
    root = touch("clips/a.png", "clips/b.png", "clips/a.txt")
    (root / "clips/a.txt").write_text("a cat\non a mat\n\nnotes to myself")
    plain = find(root / "clips", masks="none", folders={})
    assert [one.caption for one in plain.clips] == ["a cat on a mat", ""]
    assert plain.uncaptioned == ["b"]
    filled = find(root / "clips", masks="none", folders={}, caption="a photo")
    assert [one.caption for one in filled.clips] == ["a cat on a mat", "a photo"]
    assert filled.uncaptioned == []


def test_the_order_does_not_depend_on_the_disk(touch):
    root = touch(*(f"clips/{i * 79 % 100:03}.png" for i in range(100)))
    touch(*(f"masks/{i:03}.png" for i in range(100)))
    findings = masked(root)
    assert names(findings) == [f"{i:03}" for i in range(100)]
    assert all(one.masks[""].stem == one.name for one in findings.clips)
