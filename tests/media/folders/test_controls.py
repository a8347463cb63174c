"""Control pictures find their clip by its name, whatever they are and wherever links lead."""

from pathlib import Path

import pytest
import torch

from frisket.media.files import TwoFiles, find
from frisket.media.folders.controls import ControlNotFound, match_controls
from frisket.media.frames import write_image


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, torch.zeros(4, 4, 3, dtype=torch.uint8))
    return path


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for name in ("a", "sub/b", "c"):
        picture(tmp_path / "clips" / f"{name}.png")
    return tmp_path / "clips"


def search(clips: Path, **more: object) -> dict[str, Path | None]:
    findings = find(clips, masks="none", folders={}, caption="x", **more)
    return {clip.name: clip.control for clip in findings.clips}


def test_a_picture_a_video_or_a_folder_of_frames_of_the_same_name(clips, tmp_path) -> None:
    a, b = picture(tmp_path / "control" / "a.jpg"), tmp_path / "control" / "sub" / "b"
    picture(b / "0.png")
    video = tmp_path / "control" / "c.mkv"
    video.touch()
    assert search(clips, control=tmp_path / "control") == {"a": a, "sub/b": b, "c": video}
    assert search(clips) == {"a": None, "sub/b": None, "c": None}


def test_two_of_one_name_are_refused_and_what_has_no_clip_is_told(clips, tmp_path) -> None:
    picture(tmp_path / "control" / "a.png")
    picture(tmp_path / "control" / "old.png")
    (tmp_path / "control" / "a.json").write_text("{}")  # a note of `frisket control make`
    findings = find(clips, masks="none", folders={}, control=tmp_path / "control", caption="x")
    (hint,) = findings.hints
    assert "1 files have no clip, such as old.png" in str(hint)
    picture(tmp_path / "control" / "a.jpg")
    with pytest.raises(TwoFiles, match="two control pictures have the name 'a'"):
        search(clips, control=tmp_path / "control")


def test_what_a_link_brings_is_told(clips, tmp_path) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    picture(tmp_path / "control" / "c.png")
    (tmp_path / "control" / "a.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    findings = find(clips, masks="none", folders={}, control=tmp_path / "control", caption="x")
    assert findings.outside == (tmp_path / "control" / "a.png",)


def test_a_folder_without_pictures_says_so(clips, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ControlNotFound, match=r"any of the 1 clips.*no picture is there"):
        match_controls({"a": clips / "a.png"}, clips, tmp_path / "empty")
