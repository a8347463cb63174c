"""Videos on their way into the cache: picks by time, masks with them, keys that change in time."""

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from frisket.data.cached.store import Cache
from frisket.data.loader import Loader
from frisket.data.prepare import BadClips, prepare
from frisket.data.records import Clipset, Masking, Windows
from frisket.media.frames import write_video

MS = Fraction(1, 1000)
TABLE = {"subject": 1.0, "background": 0.0}
UNEVEN = [0, 17, 33, 50, 67, 83, 100, 117, 133, 150, 165, 182, 365, 533, 698, 867, 1033, 1200]


def shoot(path: Path, frames: np.ndarray, stamps=None, *, matrix=None, aspect=None, **options):
    """Frames of levels that tell their index, as FFV1 or (matrix, aspect) QuickTime animation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec, pixels = ("ffv1", "bgr0") if path.suffix == ".mkv" else ("qtrle", "rgb24")
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=30, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if stamps is not None:
            stream.codec_context.time_base = MS
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if matrix:
            stream.set_display_matrix(matrix)
        for index, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[index], MS
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def tagged(count: int, height: int = 16, width: int = 24) -> np.ndarray:
    frames = np.zeros((count, height, width, 3), np.uint8)
    for index in range(count):
        frames[index] = index * 6
        frames[index, :, : width // 2] += 3
    return frames


def clipset(folder: Path, fps: float | None, want: int = 9, size=(24, 16)) -> Clipset:
    masking = Masking("folder", {"": folder / "masks"})
    windows = Windows(want, "head", fps=fps)
    return Clipset(folder / "clips", masking, resolution=size, windows=windows, caption="x")


def done(folder: Path, fresh, *sets: Clipset):
    return prepare(list(sets), Cache(folder / "cache"), fresh(temporal=4), regions=TABLE)


def agree(prepared) -> list[float]:
    """Levels of latents, which with the tiny VAE are those of coverage."""
    batch = Loader(prepared, batch=1, seed=0, prefetch=0).at(0)
    grey = (batch.latents.mean(1) + 1) / 2
    torch.testing.assert_close(grey, batch.coverage[:, 0], atol=4e-3, rtol=0)
    return (grey[0].mean((-1, -2)) * 255 / 6).tolist()


@pytest.mark.parametrize("masked", ["uneven", "even"])
def test_picks_follow_the_time_stamps_and_masks_the_index(tmp_path, fresh, masked, caplog):
    shoot(tmp_path / "clips" / "a.mkv", tagged(18), UNEVEN)
    # Mask frame i is clip frame i, whatever the mask's own clock says.
    shoot(tmp_path / "masks" / "a.mkv", tagged(18), UNEVEN if masked == "uneven" else None)
    with caplog.at_level(logging.INFO):
        levels = agree(done(tmp_path, fresh, clipset(tmp_path, 6.0, 5)))
    # Picks are 0, 10, 11, 12, 13; the first latent frame holds one, the second the mean of four.
    assert levels == pytest.approx([0.25, (10 + 11 + 12 + 13) / 4 + 0.25], abs=0.1)
    (said,) = [record for record in caplog.records if "variable frame rate" in record.message]
    assert "1 clip (a) with a variable frame rate" in said.getMessage()


def test_pixels_that_are_not_square_with_masks_of_either_size(tmp_path, fresh):
    prepared = []
    for name, width in (("displayed", 48), ("stored", 24)):
        folder = tmp_path / name
        shoot(folder / "clips" / "a.mov", tagged(9), aspect=2)
        (folder / "masks").mkdir()
        frames = torch.from_numpy(tagged(9, 16, width))
        write_video(folder / "masks" / "a.mkv", frames, 30, lossless=True)
        prepared.append(done(folder, fresh, clipset(folder, None, size=(48, 16))))
        agree(prepared[-1])
    assert prepared[0].items[0].shape[1:] == (8, 24)
    assert prepared[0].items[0].latents == prepared[1].items[0].latents


def test_a_mirrored_clip_and_its_mask_as_it_is_shown(tmp_path, fresh):
    mirror = [-1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30]
    shoot(tmp_path / "clips" / "a.mov", tagged(9)[:, :, ::-1], matrix=mirror)
    shoot(tmp_path / "masks" / "a.mkv", tagged(9))
    agree(done(tmp_path, fresh, clipset(tmp_path, None)))


def test_a_mask_of_another_shape_is_refused_whatever_the_pixels_are(tmp_path, fresh):
    shoot(tmp_path / "clips" / "a.mov", tagged(9), aspect=2)
    shoot(tmp_path / "masks" / "a.mkv", tagged(9, 16, 16))
    with pytest.raises(BadClips, match="the mask is 16 x 16"):
        done(tmp_path, fresh, clipset(tmp_path, None))


def test_what_is_remembered_of_a_file_is_what_probe_says(tmp_path, fresh):
    shoot(tmp_path / "clips" / "a.mkv", tagged(18), UNEVEN)
    shoot(tmp_path / "clips" / "b.mov", tagged(9), aspect=2)
    for name, count, width in (("a", 18, 24), ("b", 9, 48)):
        shoot(tmp_path / "masks" / f"{name}.mkv", tagged(count, 16, width))
    first = done(tmp_path, fresh, clipset(tmp_path, 6.0, 5))
    again = done(tmp_path, fresh, clipset(tmp_path, 6.0, 5))  # from the index
    assert first.items == again.items
    assert (again.report.encoded, again.report.covered) == (0, 0)
