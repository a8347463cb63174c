"""What is wrong with control pictures is said before any model is asked, with names and numbers."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from frisket.data.cached.store import Cache
from frisket.data.control.planning import ControlUnusable, NoControl
from frisket.data.loader import Loader
from frisket.data.prepare import BadClips, prepare
from frisket.data.records import Clipset, Controls, Prepared, SwapPlan, Windows
from frisket.media.folders.controls import ControlNotFound
from frisket.media.frames import write_image, write_video

TABLE = {"subject": 1.0, "background": 0.0}


def draw(frames: int = 1, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    dice = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, height, width, 3), generator=dice, dtype=torch.uint8)


@pytest.fixture
def control(folder: Path) -> Path:
    """A control picture for each of the six clips."""
    (folder / "control").mkdir()
    for number in range(6):
        write_image(folder / "control" / f"c{number:04d}.png", draw(seed=number)[0])
    return folder / "control"


def run(clipset: Clipset, cache: Cache, encoders, **more) -> Prepared:
    return prepare([clipset], cache, encoders, **{"regions": TABLE, **more})


def test_batches_bring_the_pictures_as_they_are(folder, clipset, control, cache, encoders) -> None:
    done = run(clipset(folder, control=Controls(control)), cache, encoders)
    batch = Loader(done, batch=3, seed=0, prefetch=0).at(0)
    assert batch.control.shape == (3, 3, 1, 32, 32)
    for row, name in enumerate(batch.names):
        picture = draw(seed=int(name[1:]))[0].permute(2, 0, 1)
        assert torch.equal(batch.control[row, :, 0], picture.float() / 255)
    assert batch.control_latents is None
    assert batch.to("cpu", torch.bfloat16).control.dtype == torch.float32


def test_sets_without_control_are_as_they_were(folder, clipset, control, cache, encoders) -> None:
    """Other keys stay good, and what a run is drawn from does not change."""
    plain = run(clipset(folder), cache, encoders)
    with_control = run(clipset(folder, control=Controls(control)), cache, encoders)
    assert Loader(plain, batch=1, seed=0, prefetch=0).at(0).control is None
    assert [item.latents for item in plain.items] == [item.latents for item in with_control.items]
    assert plain.digest != with_control.digest
    assert encoders.encoded == 6


def test_only_what_changed_is_cut_again(folder, clipset, control, cache, encoders) -> None:
    data = clipset(folder, control=Controls(control))
    first = run(data, cache, encoders)
    write_image(control / "c0002.png", draw(seed=99)[0])
    second = run(data, cache, encoders)
    changed = [a.name for a, b in zip(first.items, second.items, strict=True) if a != b]
    assert changed == ["c0002"]
    assert encoders.encoded == 6


def test_a_lost_entry_is_made_again(folder, clipset, control, cache, encoders) -> None:
    data = clipset(folder, control=Controls(control))
    done = run(data, cache, encoders)
    done = replace(done, rebuild=lambda: run(data, cache, encoders))
    before = Loader(done, batch=6, seed=0, prefetch=0).at(0).control
    for item in done.items:
        cache.drop("control", item.control)
    assert torch.equal(Loader(done, batch=6, seed=0, prefetch=0).at(0).control, before)


class Halves:
    """What a ControlNet that reads latents is given: a real layer, its calls counted."""

    def __init__(self, name: str = "a") -> None:
        self.record = {"net": name}
        self.layer = torch.nn.AvgPool3d((1, 2, 2))
        self.calls = self.freed = 0

    def read(self, control):
        self.calls += 1
        return self.layer(control)

    def unload(self) -> None:
        self.freed += 1


def test_latents_of_controls_are_a_stage_of_their_own(
    folder, clipset, control, cache, encoders
) -> None:
    data = clipset(folder, control=Controls(control))
    halves = Halves()
    done = run(data, cache, encoders, control=halves)
    batch = Loader(done, batch=6, seed=0, prefetch=0).at(0)
    assert batch.control_latents.shape == (6, 3, 1, 16, 16)
    assert torch.equal(batch.control_latents, halves.layer(batch.control))
    lean = replace(done, control_pixels=False)  # a video's pixels weigh far more than its latents
    assert Loader(lean, batch=6, seed=0, prefetch=0).at(0).control is None
    assert halves.calls == 6
    assert halves.freed == 1
    again, other = Halves(), Halves("b")
    run(data, cache, encoders, control=again)
    run(data, cache, encoders, control=other)
    assert (again.calls, other.calls) == (0, 6)


def test_a_clip_without_one_is_named(folder, clipset, control, cache, encoders) -> None:
    (control / "c0001.png").unlink()
    (control / "c0004.png").unlink()
    with pytest.raises(NoControl, match="2 clips have no control picture: c0001, c0004"):
        run(clipset(folder, control=Controls(control)), cache, encoders)
    assert encoders.encoded == 0
    done = run(clipset(folder, control=Controls(control, leave_out=True)), cache, encoders)
    assert [item.name for item in done.items] == ["c0000", "c0002", "c0003", "c0005"]
    assert "2 clips have no control picture and stay out: c0001, c0004" in str(done.report.hints)


def test_another_aspect_is_refused_with_both_sizes(
    folder, clipset, control, cache, encoders
) -> None:
    write_image(control / "c0003.png", draw(height=32, width=40)[0])
    with pytest.raises(BadClips, match=r"c0003.png is 40 x 32, its clip .* is 32 x 32"):
        run(clipset(folder, control=Controls(control)), cache, encoders)
    assert encoders.encoded == 0
    write_image(control / "c0003.png", draw(height=96, width=96)[0])
    run(clipset(folder, control=Controls(control)), cache, encoders)  # the same aspect is fitted


def test_a_broken_picture_is_refused_before_encoding(
    folder, clipset, control, cache, encoders
) -> None:
    whole = (control / "c0005.png").read_bytes()
    (control / "c0005.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadClips, match=r"c0005\.png"):
        run(clipset(folder, control=Controls(control)), cache, encoders)
    assert encoders.encoded == 0


def write_videos(folder: Path, frames: int, control_frames: int) -> Clipset:
    for name, count in (("clips", frames), ("control", control_frames)):
        (folder / name).mkdir(parents=True)
        write_video(folder / name / "a.mkv", draw(count, 16, 24), 16.0, lossless=True)
    return Clipset(
        folder / "clips",
        caption="x",
        resolution=(24, 16),
        windows=Windows(5),
        control=Controls(folder / "control"),
    )


def test_another_frame_count_is_refused_with_the_numbers(tmp_path, cache, fresh) -> None:
    data = write_videos(tmp_path, 9, 7)
    with pytest.raises(BadClips, match=r"a.mkv has 7 frames but its clip .* has 9, of which 5"):
        run(data, cache, fresh(temporal=4))


def test_the_picked_frames_alone_do_not_serve_several_training_clips(
    tmp_path, cache, fresh
) -> None:
    data = replace(write_videos(tmp_path, 10, 5), windows=Windows(5, "chunk"))
    with pytest.raises(BadClips, match=r"has 5 frames but its clip .* has 10: make one control"):
        run(data, cache, fresh(temporal=4))


def test_a_still_for_a_video_is_said_once(tmp_path, cache, fresh, caplog) -> None:
    data = write_videos(tmp_path, 9, 9)
    write_video(tmp_path / "clips" / "b.mkv", draw(9, 16, 24), 16.0, lossless=True)
    write_image(tmp_path / "control" / "b.png", draw(1, 16, 24)[0])
    with caplog.at_level(logging.INFO):
        run(data, cache, fresh(temporal=4))
    lines = [line for line in caplog.messages if "still control picture" in line]
    assert len(lines) == 1
    assert "1 videos" in lines[0]
    assert lines[0].endswith(": b")


def test_what_would_belie_the_control_is_refused(folder, clipset, control, cache, encoders) -> None:
    data = clipset(folder, control=Controls(control))
    with pytest.raises(ControlUnusable, match=r"swap\.rate: a swap changes what a clip shows"):
        run(data, cache, encoders, swap=SwapPlan(()))
    with pytest.raises(ControlUnusable, match=r"and .*clips has none"):
        prepare([data, clipset(folder)], cache, encoders, regions=TABLE)


def test_a_folder_that_matches_nothing_names_both_sides(
    folder, clipset, control, cache, encoders
) -> None:
    with pytest.raises(ControlNotFound, match=r"poses: there is no such folder; a clip is 'c0000'"):
        run(clipset(folder, control=Controls(folder / "poses")), cache, encoders)
    for path in control.iterdir():
        path.rename(path.with_stem(f"x{path.stem}"))
    with pytest.raises(ControlNotFound, match=r"any of the 6 clips.*a file there is 'xc0000'"):
        run(clipset(folder, control=Controls(control)), cache, encoders)
    with pytest.raises(ControlNotFound, match=r"is the clip folder itself"):
        run(clipset(folder, control=Controls(folder / "clips")), cache, encoders)


def test_a_folder_within_the_clips_holds_no_clips(
    folder, clipset, control, cache, encoders
) -> None:
    control.rename(folder / "clips" / "control")
    done = run(clipset(folder, control=Controls(folder / "clips" / "control")), cache, encoders)
    assert len(done.items) == 6
