"""A mask shows the very frames its clip shows, whatever cuts, drops or mirrors them on the way."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frisket.data.cached.store import Cache
from frisket.data.loader import Loader
from frisket.data.prepare import BadClips, prepare
from frisket.data.records import Clipset, Masking, Windows
from frisket.media.frames import write_image, write_video

STEP = 6  # grey levels from one frame to the next: every frame tells its index
TABLE = {"subject": 1.0, "background": 0.0}


def tagged(frames: int) -> torch.Tensor:
    """Frames that tell their index, the left half a little brighter."""
    made = torch.zeros(frames, 16, 24, 3, dtype=torch.uint8)
    for index in range(frames):
        made[index] = index * STEP
        made[index, :, :12] += 3
    return made


def write_set(folder: Path, frames: int, fps: float, *, mask_as: str, masks: int = 0) -> None:
    (folder / "clips").mkdir(parents=True)
    (folder / "masks").mkdir()
    write_video(folder / "clips" / "a.mkv", tagged(frames), fps, lossless=True)
    mask = tagged(masks or frames)
    if mask_as == "video":
        write_video(folder / "masks" / "a.mkv", mask, fps, lossless=True)
        return
    (folder / "masks" / "a").mkdir()
    for index, frame in enumerate(mask):
        write_image(folder / "masks" / "a" / f"{index}.png", frame)


def clipset_of(folder: Path, windows: Windows, *, flip: bool = False) -> Clipset:
    masking = Masking("folder", {"": folder / "masks"})
    return Clipset(
        folder / "clips", masking, resolution=(24, 16), windows=windows, flip=flip, caption="x"
    )


@settings(max_examples=25)
@given(
    frames=st.integers(9, 40),
    rates=st.sampled_from([(24.0, 24.0), (24.0, 16.0), (30.0, 16.0), (25.0, 7.0), (12.0, 16.0)]),
    mode=st.sampled_from(["head", "chunk", "uniform", "slide", "full"]),
    want=st.sampled_from([1, 5, 9]),
    stride=st.integers(1, 4),
    mask_as=st.sampled_from(["video", "folder"]),
    flip=st.booleans(),
)
def test_mask_and_pixels_follow_the_same_frames(
    frames, rates, mode, want, stride, mask_as, flip, fresh
):
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_set(folder / "set", frames, rates[0], mask_as=mask_as)
        windows = Windows(want, mode, stride=stride, samples=3, max_frames=13, fps=rates[1])
        done = prepare(
            [clipset_of(folder / "set", windows, flip=flip)],
            Cache(folder / "cache"),
            fresh(temporal=4),
            regions=TABLE,
        )
        loader = Loader(done, batch=1, seed=0, prefetch=0)
        for number in range(len(done.items)):
            batch = loader.at(number)
            # The tiny VAE keeps grey as it is and averages causal groups, as coverage does.
            grey = (batch.latents.mean(1) + 1) / 2
            torch.testing.assert_close(grey, batch.coverage[:, 0], atol=2e-3, rtol=0)


@pytest.mark.parametrize("mask_as", ["video", "folder"])
@pytest.mark.parametrize("masks", [8, 12])
def test_a_mask_of_another_length_is_refused_with_both_counts(tmp_path, fresh, mask_as, masks):
    write_set(tmp_path / "set", 9, 24.0, mask_as=mask_as, masks=masks)
    windows = Windows(9, "head")
    with pytest.raises(BadClips, match=rf"{masks} frames.*9|9.*{masks} frames"):
        prepare(
            [clipset_of(tmp_path / "set", windows)],
            Cache(tmp_path / "cache"),
            fresh(temporal=4),
            regions=TABLE,
        )


def test_still_images_join_a_video_set_as_one_frame(tmp_path, fresh):
    write_set(tmp_path / "set", 9, 24.0, mask_as="video")
    write_image(tmp_path / "set" / "clips" / "still.png", tagged(5)[4])
    write_image(tmp_path / "set" / "masks" / "still.png", tagged(5)[4])
    done = prepare(
        [clipset_of(tmp_path / "set", Windows(9, "head"))],
        Cache(tmp_path / "cache"),
        fresh(temporal=4),
        regions=TABLE,
    )
    assert {item.name: item.shape[0] for item in done.items} == {"a": 3, "still": 1}
    loader = Loader(done, batch=2, seed=0, prefetch=0)
    seen = [loader.at(number) for number in range(4)]
    assert {batch.latents.shape[2] for batch in seen} == {1, 3}
    for batch in seen:
        grey = (batch.latents.mean(1) + 1) / 2
        torch.testing.assert_close(grey, batch.coverage[:, 0], atol=2e-3, rtol=0)
