"""Reference pictures find their clip, or say which clip has none."""

from pathlib import Path

import pytest
import torch

from frisket.media.folders.references import ReferencesNotFound, find_references
from frisket.media.frames import write_image


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, torch.zeros(4, 4, 3, dtype=torch.uint8))
    return path


def test_one_by_name_several_by_number_in_order(tmp_path):
    one = picture(tmp_path / "a.png")
    several = [picture(tmp_path / f"sub/b_{number}.jpg") for number in (0, 1, 2, 10)]
    picture(tmp_path / "left-over.png")
    found = find_references(tmp_path, ["a", "sub/b"])
    assert found == {"a": (one,), "sub/b": tuple(several)}


def test_a_clip_called_like_a_number_keeps_its_own(tmp_path):
    first, second = picture(tmp_path / "shot.png"), picture(tmp_path / "shot_0.png")
    assert find_references(tmp_path, ["shot", "shot_0"]) == {
        "shot": (first,),
        "shot_0": (second,),
    }


def test_clips_without_one_are_named(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.raises(ReferencesNotFound, match=r"no reference picture for c0, c1.* and 2 more"):
        find_references(tmp_path, ["a", *(f"c{number}" for number in range(7))])
    with pytest.raises(ReferencesNotFound, match="gone: there is no such folder"):
        find_references(tmp_path / "gone", ["a"])


def test_both_kinds_for_one_clip_are_refused(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "a_0.png")
    with pytest.raises(ReferencesNotFound, match="keep one kind"):
        find_references(tmp_path, ["a"])
