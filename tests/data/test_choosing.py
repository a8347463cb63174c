"""Clips without a mask: left out, lent one, trained on whole or refused, and always named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frisket.data.cached.store import Cache
from frisket.data.prepare import prepare
from frisket.data.records import Clipset
from frisket.media.files import MasksNotFound

TABLE = {"subject": 1.0, "background": 0.0}
Make = Callable[..., Clipset]


@pytest.fixture
def partly(folder: Path) -> Path:
    """Six clips, the second and fourth without a mask."""
    for number in (1, 3):
        (folder / "masks" / f"c000{number}.png").unlink()
    return folder


def run(clipset: Clipset, cache: Cache, encoders: Any, **more: object) -> Any:
    return prepare([clipset], cache, encoders, **{"regions": TABLE, **more})


def test_a_clip_without_a_mask_is_left_out_and_named(
    partly: Path, clipset: Make, cache: Cache, encoders: Any
) -> None:
    done = run(clipset(partly), cache, encoders)
    assert [item.name for item in done.items] == ["c0000", "c0002", "c0004", "c0005"]
    assert done.report.left == ("c0001", "c0003")
    assert done.report.unmasked == ()
    assert encoders.encoded == 4


def test_they_are_trained_on_whole_where_that_is_asked_for(
    partly: Path, clipset: Make, cache: Cache, encoders: Any
) -> None:
    done = run(clipset(partly, {"unmasked": "train"}), cache, encoders)
    assert len(done.items) == 6
    assert done.report.unmasked == ("c0001", "c0003")
    assert done.report.left == ()


def test_a_set_without_any_mask_stays_whole(
    folder: Path, clipset: Make, cache: Cache, encoders: Any
) -> None:
    bare = clipset(folder, {"source": "none", "folders": {}})
    both = prepare([clipset(folder), bare], cache, encoders, regions=TABLE)
    assert len(both.items) == 12  # a set of regularisation pictures beside one with masks
    assert both.report.left == ()


def test_the_fallback_is_the_mask_of_clips_that_have_none(
    partly: Path, clipset: Make, cache: Cache, encoders: Any, draw_mask: Any
) -> None:
    half = np.zeros((32, 32))
    half[:, :16] = 1
    draw_mask(partly / "half.png", half)
    done = run(clipset(partly, {"fallback": partly / "half.png"}), cache, encoders)
    assert len(done.items) == 6
    assert done.report.lent == ("c0001", "c0003")
    assert done.report.masked == 6
    planes = cache.load("coverage", done.items[1].coverage).tensors["planes"].float()
    assert planes[..., :8].min() == 1
    assert planes[..., 8:].max() == 0


def test_a_fallback_that_is_not_there_stops_before_any_work(
    partly: Path, clipset: Make, cache: Cache, encoders: Any
) -> None:
    with pytest.raises(MasksNotFound, match=r"masks.fallback: .*gone.png"):
        run(clipset(partly, {"fallback": partly / "gone.png"}), cache, encoders)
    assert encoders.encoded == 0


def test_held_out_clips_have_a_mask_where_any_has(
    partly: Path, clipset: Make, cache: Cache, encoders: Any
) -> None:
    for masking in ({}, {"unmasked": "train"}):
        for count in (1, 2, 3):
            done = run(clipset(partly, masking), cache, encoders, holdout=count)
            assert len(done.held) == count
            assert all(item.coverage is not None for item in done.held)
    with pytest.raises(ValueError, match="none of the 4 clips that have a mask"):
        run(clipset(partly, {"unmasked": "train"}), cache, encoders, holdout=4)


def test_an_evaluation_set_is_held_out_whole_and_named_where_it_is_trained_on(
    folder: Path, clipset: Make, cache: Cache, encoders: Any, draw_clip: Any, tmp_path: Path
) -> None:
    for number in (20, 21):
        draw_clip(tmp_path / "other", number)
    draw_clip(tmp_path / "other", 3)  # the same picture as one that is trained on
    other = clipset(tmp_path / "other", flip=True, repeats=5)
    done = run(clipset(folder), cache, encoders, holdout=1, measured=[other])
    assert len(done.items) == 5
    assert [item.name for item in done.held[1:]] == ["c0003", "c0020", "c0021"]
    assert done.report.shared == ("c0003",)
    assert (done.report.clips, done.report.masked) == (6, 6)
    assert not any(item.flip for item in done.held)


def test_masks_that_were_called_unsure_stay_out_unless_there_are_no_others(
    folder: Path, clipset: Make, cache: Cache, encoders: Any
) -> None:
    doubts = {"unsure": lambda found: found.name in ("c0001", "c0002")}
    done = run(clipset(folder, doubts), cache, encoders)
    assert done.report.doubted == ("c0001", "c0002")
    assert len(done.items) == 4
    whole = run(clipset(folder, {**doubts, "unmasked": "train"}), cache, encoders)
    assert len(whole.items) == 6
    every = run(clipset(folder, {"unsure": lambda _: True}), cache, encoders)
    assert len(every.items) == 6
    assert len(every.report.unsure) == 6
    assert every.report.doubted == ()
