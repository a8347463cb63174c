"""A control picture lies where its mask lies, whatever cuts, resizes, mirrors or picks frames."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frisket.data.cached.store import Cache
from frisket.data.loader import Loader
from frisket.data.prepare import prepare
from frisket.data.records import Clipset, Controls, Masking, Windows
from frisket.masks.coverage import to_latent
from frisket.media.frames import write_image, write_video

TABLE = {"subject": 1.0, "background": 0.0}
ROUNDED = 0.5 / 255 + 1e-5  # of a pixel kept in 8 bits


def paint(frames: int, size: tuple[int, int], seed: int) -> torch.Tensor:
    """Grey frames F H W 3: soft blobs that differ from frame to frame."""
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 256, (frames, *size, 1), dtype=np.uint8)
    return torch.from_numpy(np.repeat(grey, 3, axis=-1))


def write_clip(place: Path, frames: torch.Tensor, fps: float) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if len(frames) == 1:
        write_image(place.with_suffix(".png"), frames[0])
    else:
        write_video(place.with_suffix(".mkv"), frames, fps, lossless=True)


def write_set(
    folder: Path, clip: torch.Tensor, mask: torch.Tensor, control: torch.Tensor, fps: float
) -> None:
    for name, frames in (("clips", clip), ("masks", mask), ("control", control)):
        write_clip(folder / name / "a", frames, fps)


def prepare_set(folder: Path, encoders, *, windows: Windows, flip: bool, size: tuple[int, int]):
    return prepare(
        [
            Clipset(
                folder / "clips",
                Masking("folder", {"": folder / "masks"}),
                caption="x",
                resolution=size,
                keep_aspect=False,
                windows=windows,
                flip=flip,
                control=Controls(folder / "control"),
            )
        ],
        Cache(folder / "cache"),
        encoders,
        regions=TABLE,
    )


@settings(max_examples=8, deadline=None)
@given(
    frames=st.sampled_from([1, 9, 14]),
    own=st.sampled_from([(24, 40), (33, 47), (64, 64), (16, 24)]),
    double=st.booleans(),
    size=st.sampled_from([(24, 16), (16, 32), (48, 48)]),
    rates=st.sampled_from([(24.0, 24.0), (24.0, 16.0), (25.0, 12.0)]),
    mode=st.sampled_from(["head", "chunk", "slide", "middle"]),
    still=st.booleans(),
    flip=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_mask_painted_grey_stays_its_mask(
    frames, own, double, size, rates, mode, still, flip, seed, fresh
):
    """The control of a clip is its mask: after the whole path both cover the cells alike."""
    mask = paint(1 if still else frames, own, seed)
    if double:  # of another size than the clip, at its aspect
        own = (2 * own[0], 2 * own[1])
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_set(folder, paint(frames, own, seed + 1), mask, mask, rates[0])
        windows = Windows(5, mode, stride=3, fps=rates[1])
        encoders = fresh(temporal=4)
        done = prepare_set(folder, encoders, windows=windows, flip=flip, size=size)
        loader = Loader(done, batch=1, seed=0, prefetch=0)
        for number in range(len(done.items)):
            batch = loader.at(number)
            assert batch.control.shape[2] == len(done.items[batch.items[0]].picks)
            assert batch.control.shape[-2:] == (size[1], size[0])
            cells = to_latent(batch.control[0], encoders.grid, "mean")
            gap = (cells - batch.coverage[0].expand(3, -1, -1, -1)).abs().max()
            assert float(gap) <= ROUNDED


def test_each_training_clip_of_a_video_has_its_own_frames(tmp_path, fresh) -> None:
    """Frames tell their index: each run of a chunked video brings the control of just its own."""
    clip = torch.arange(12, dtype=torch.uint8)[:, None, None, None].expand(12, 16, 24, 3) * 20
    write_set(tmp_path, clip, clip, clip, 16.0)
    done = prepare_set(
        tmp_path, fresh(temporal=4), windows=Windows(5, "chunk"), flip=False, size=(24, 16)
    )
    loader = Loader(done, batch=1, seed=0, prefetch=0)
    for number in range(2):
        batch = loader.at(number)
        picks = torch.tensor(done.items[batch.items[0]].picks)
        assert (batch.control[0, 0, :, 3, 3] * 255 / 20).round().tolist() == picks.tolist()


@pytest.mark.parametrize("length", [5, 9])
def test_a_control_of_the_picked_frames_is_taken_whole(length, tmp_path, fresh) -> None:
    clip = torch.arange(9, dtype=torch.uint8)[:, None, None, None].expand(9, 16, 24, 3) * 20
    write_set(tmp_path, clip, clip[:1], clip[-length:].contiguous(), 16.0)
    done = prepare_set(tmp_path, fresh(temporal=4), windows=Windows(5), flip=False, size=(24, 16))
    batch = Loader(done, batch=1, seed=0, prefetch=0).at(0)
    first = 9 - length  # a control of all frames is picked alike, one of five is those five
    assert (batch.control[0, 0, :, 0, 0] * 255 / 20).round().tolist() == [
        first + place for place in range(5)
    ]
