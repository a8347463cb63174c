"""Tests of data/prepare.py: what is encoded, what is not encoded again, what is refused."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frisket.data.cached.store import Cache, CannotWrite
from frisket.data.prepare import BadClips, prepare
from frisket.data.records import Clipset, Prepared, Windows
from frisket.data.statistics import NoMasks
from frisket.media.frames import write_image, write_video

TABLE = {"subject": 1.0, "background": 0.0}
Make = Callable[..., Clipset]


def run(clipset: Clipset, cache: Cache, encoders: Any, **more: object) -> Prepared:
    return prepare([clipset], cache, encoders, **{"regions": TABLE, **more})


def test_a_clip_becomes_latents_text_and_coverage(folder, clipset: Make, cache, encoders) -> None:
    done = run(clipset(folder), cache, encoders)
    assert [item.name for item in done.items] == [f"c{n:04d}" for n in range(6)]
    assert encoders.encoded == 6
    assert encoders.embedded == 1  # all have the same caption
    item = done.items[0]
    assert cache.load("latents", item.latents).tensors["latents"].shape == (12, 1, 16, 16)
    planes = cache.load("coverage", item.coverage).tensors["planes"]
    assert planes.shape == (1, 1, 16, 16)
    assert 0 < float(planes.mean()) < 0.5
    assert done.report.coverage["subject"].low <= float(planes.mean())
    assert (done.report.clips, done.report.masked) == (6, 6)


def test_a_second_run_calls_no_model_and_changes_nothing(
    folder, clipset, cache, encoders, fresh
) -> None:
    first = run(clipset(folder), cache, encoders)
    again = fresh()
    second = run(clipset(folder), cache, again)
    assert again.encoded == again.embedded == 0
    assert second.items == first.items
    assert second.digest == first.digest
    assert second.report.coverage == first.report.coverage


@pytest.mark.parametrize("edit", ["change", "delete", "add"])
def test_editing_a_mask_covers_one_clip_and_never_asks_the_vae(
    edit: str, folder: Path, clipset: Make, cache: Cache, encoders, draw_mask, fresh
) -> None:
    mask = folder / "masks" / "c0002.png"
    payload = mask.read_bytes()
    if edit == "add":
        mask.unlink()
    whole = {"unmasked": "train"}
    before = run(clipset(folder, whole), cache, encoders)
    if edit == "delete":
        mask.unlink()
    elif edit == "change":
        draw_mask(mask, np.eye(32))
    else:
        mask.write_bytes(payload)
    again = fresh()
    after = run(clipset(folder, whole), cache, again)
    assert again.encoded == again.embedded == 0
    changed = [a.name for a, b in zip(before.items, after.items, strict=True) if a != b]
    assert changed == ["c0002"]
    assert (after.items[2].coverage is None) == (edit == "delete")
    assert after.report.covered == (edit != "delete")
    assert before.items[2].latents == after.items[2].latents


def test_weights_touch_nothing_and_mask_options_cover_again(
    folder: Path, clipset: Make, cache: Cache, encoders
) -> None:
    first = run(clipset(folder), cache, encoders)
    assert run(clipset(folder), cache, encoders, regions={"subject": 0.3}).report.covered == 0
    grown = run(clipset(folder, {"grow": 2.0}), cache, encoders)
    assert grown.report.covered == 6
    assert encoders.encoded == 6
    assert grown.report.coverage["subject"].mean > first.report.coverage["subject"].mean


def test_one_cache_keeps_sets_sizes_and_models_apart(
    tmp_path: Path, clipset: Make, cache: Cache, draw_clip, fresh
) -> None:
    for place, first in (("a", 0), ("b", 10)):  # same names, other pictures
        for number in range(2):
            draw_clip(tmp_path / place / "x", number + first)
            for kind in ("clips", "masks"):
                here = tmp_path / place / "x" / kind
                (here / f"c{number + first:04d}.png").rename(here / f"same{number}.png")
    a, b, wider = fresh("a"), fresh("b"), fresh("a")
    sets = {
        "a": run(clipset(tmp_path / "a" / "x"), cache, a),
        "b": run(clipset(tmp_path / "b" / "x"), cache, a),
        "other model": run(clipset(tmp_path / "a" / "x"), cache, b),
        "other size": run(clipset(tmp_path / "a" / "x", resolution=64), cache, wider),
    }
    keys = [item.latents for done in sets.values() for item in done.items]
    assert len(set(keys)) == len(keys)
    assert a.encoded == 4
    assert b.encoded == wider.encoded == 2
    alone = run(clipset(tmp_path / "b" / "x"), Cache(tmp_path / "alone"), fresh("a"))
    for mine, theirs in zip(sets["b"].items, alone.items, strict=True):
        shared = cache.load("latents", mine.latents).tensors["latents"]
        own = Cache(tmp_path / "alone").load("latents", theirs.latents).tensors["latents"]
        assert torch.equal(shared, own)


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_entry_is_made_again(
    damage: str, folder: Path, clipset: Make, cache: Cache, encoders, fresh
) -> None:
    item = run(clipset(folder), cache, encoders).items[3]
    path = cache.path("latents", item.latents)
    whole = path.read_bytes()
    if damage == "flip":
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    elif damage == "cut":
        path.write_bytes(whole[:100])
    else:
        path.unlink()
    again = fresh()
    run(clipset(folder), cache, again)
    assert again.encoded == 1
    assert path.read_bytes() == whole


KILLED = """
    import os, runpy, signal
    from pathlib import Path
    from frisket.data.cached.store import Cache
    from frisket.data.records import Clipset, Masking
    from frisket.data.prepare import prepare
    from frisket.data.cached import store

    Encoders = runpy.run_path({conftest!r})["Encoders"]

    class Dying(Encoders):
        def encode(self, clip, *seen):
            if self.encoded == 3:
                store.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            return super().encode(clip, *seen)

    how = Masking("folder", {{"": Path({folder!r}) / "masks"}})
    clips = Clipset(Path({folder!r}) / "clips", how, resolution=32)
    prepare([clips], Cache(Path({cache!r})), Dying(),
            regions={{"subject": 1.0}})
"""


def test_a_killed_run_leaves_no_half_entry_and_is_gone_on_with(
    folder: Path, clipset: Make, cache: Cache, fresh
) -> None:
    conftest = str(Path(__file__).with_name("conftest.py"))
    code = KILLED.format(conftest=conftest, folder=str(folder), cache=str(cache.folder))
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert died.returncode == -9
    entries = list(cache.folder.glob("latents/*/*.safetensors"))
    assert len(entries) == 3  # the fourth was written whole, but not yet renamed
    assert list(cache.folder.glob("latents/*/.*.tmp"))
    again = fresh()
    done = run(clipset(folder), cache, again)
    assert again.encoded == 3
    for item in done.items:
        cache.load("latents", item.latents)


def test_all_bad_files_are_named_at_once_before_any_encoding(
    folder: Path, clipset: Make, cache: Cache, encoders, draw_mask
) -> None:
    (folder / "clips" / "c0001.png").write_bytes(b"")
    (folder / "clips" / "c0004.png").write_bytes(b"no picture")
    draw_mask(folder / "masks" / "c0005.png", np.ones((32, 64)))
    with pytest.raises(BadClips, match="3 files cannot be used") as error:
        run(clipset(folder), cache, encoders)
    assert all(name in str(error.value) for name in ("c0001", "c0004", "c0005"))
    assert encoders.encoded == 0


def test_clips_cut_off_in_their_pixels_stop_before_any_is_encoded(
    folder: Path, clipset: Make, cache: Cache, encoders
) -> None:
    path = folder / "clips" / "c0000.jpg"  # its header is whole
    (folder / "clips" / "c0000.png").unlink()
    noise = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8)
    write_image(path, noise)
    path.write_bytes(path.read_bytes()[:3000])
    (folder / "clips" / "c0001.png").write_bytes(b"no picture")
    with pytest.raises(BadClips, match="2 files cannot be used") as error:
        run(clipset(folder), cache, encoders)
    assert all(name in str(error.value) for name in ("c0000.jpg", "c0001.png"))
    assert encoders.encoded == 0


def test_required_masks_that_are_missing_are_named(folder, clipset: Make, cache, encoders) -> None:
    (folder / "masks" / "c0003.png").unlink()
    with pytest.raises(NoMasks, match="c0003"):
        run(clipset(folder, {"require": True}), cache, encoders)


def test_the_report_finds_empty_full_thin_orphan_and_uncaptioned(
    folder: Path, clipset: Make, cache: Cache, encoders, draw_mask
) -> None:
    line = np.zeros((32, 32))
    line[7] = 1  # half a latent cell high
    line[8] = 0
    masks = folder / "masks"
    draw_mask(masks / "c0000.png", np.zeros((32, 32)))
    draw_mask(masks / "c0001.png", np.ones((32, 32)))
    draw_mask(masks / "c0002.png", np.eye(32) * 0 + line * (np.arange(32) % 2))
    draw_mask(masks / "nobody.png", np.ones((32, 32)))
    (folder / "clips" / "c0003.txt").unlink()
    report = run(clipset(folder), cache, encoders).report
    assert report.all_zero == ("c0000",)
    assert report.all_full == ("c0001",)
    assert report.thin == ("c0002: subject",)
    assert [Path(path).name for path in report.orphans] == ["nobody.png"]
    assert report.uncaptioned == ("c0003",)
    assert report.silent == 1
    assert (report.coverage["subject"].low, report.coverage["subject"].high) == (0.0, 1.0)


def test_flips_and_tag_orders_are_items_and_texts_of_their_own(
    folder: Path, clipset: Make, cache: Cache, encoders
) -> None:
    done = run(clipset(folder, flip=True, shuffle_tags=True, dropout=0.1), cache, encoders)
    plain, flipped = done.items[:2]
    assert len(done.items) == 12
    assert done.report.clips == 6
    one, other = (cache.load("coverage", i.coverage).tensors["planes"] for i in (plain, flipped))
    assert torch.equal(one.flip(-1), other)
    one, other = (cache.load("latents", i.latents).tensors["latents"] for i in (plain, flipped))
    assert not torch.equal(one, other)
    assert len(set(plain.texts)) == 6  # 3 tags have 6 orders
    assert plain.empty is not None
    cache.load("text", plain.empty)


def test_held_out_clips_are_spread_and_never_trained_on(
    folder: Path, clipset: Make, cache: Cache, encoders
) -> None:
    both = [clipset(folder, flip=True), clipset(folder, resolution=64)]
    done = prepare(both, cache, encoders, regions=TABLE, holdout=2)
    assert [item.name for item in done.held] == ["c0001", "c0004"]
    assert not {i.clip for i in done.held} & {i.clip for i in done.items}
    assert not any(item.flip for item in done.held)
    with pytest.raises(ValueError, match="holdout = 6"):
        run(clipset(folder), cache, encoders, holdout=6)


def test_videos_are_cut_into_windows_with_their_masks(
    tmp_path: Path, clipset, cache, fresh
) -> None:
    encoders = fresh(temporal=4)
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (12, 32, 32, 3), generator=generator, dtype=torch.uint8)
    mask = torch.zeros(12, 32, 32, 3, dtype=torch.uint8)
    mask[6:, :16] = 255
    for name, clip in (("clips", frames), ("masks", mask)):
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / "v.mkv", clip, 8.0, lossless=True)
    how = Windows(frames=5, mode="chunk")
    done = run(clipset(tmp_path, windows=how), cache, encoders)
    assert [item.name for item in done.items] == ["v#0", "v#1"]
    assert done.items[0].shape == (2, 16, 16)
    first, second = (cache.load("coverage", item.coverage).tensors["planes"] for item in done.items)
    assert not first.any()
    assert second[0, 0].max() == 0  # frame 5 alone
    assert second[0, 1, :8].min() == 1  # frames 6 to 9


def test_progress_counts_to_the_end(folder: Path, clipset: Make, cache, encoders) -> None:
    seen: list[tuple[str, int, int]] = []
    run(clipset(folder), cache, encoders, progress=lambda *what: seen.append(what))
    assert ("clips and masks", 6, 6) in seen
    assert ("latents", 6, 6) in seen
    assert ("captions", 1, 1) in seen
    json.dumps(seen)


def test_a_setting_that_fits_no_clip_is_said_once(folder: Path, clipset, cache, encoders) -> None:
    with pytest.raises(BadClips, match=r"c0000\.png and 5 more: resolution 30 x 30") as error:
        run(clipset(folder, resolution=(30, 30), keep_aspect=False), cache, encoders)
    assert len(str(error.value).splitlines()) == 2


def test_a_full_disk_is_not_taken_for_a_bad_clip(
    folder: Path, clipset: Make, cache: Cache, encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, payload: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CannotWrite, match="No space left on device"):
        run(clipset(folder), cache, encoders)
