"""Rate conversion and clip extraction, in original frame indices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frisket.grid import LatentGrid
from frisket.media.picks import extract, resample

VIDEO = LatentGrid(channels=16, spatial=8, temporal=4)
IMAGE = LatentGrid(channels=4, spatial=8)


@given(
    frames=st.integers(1, 400),
    source=st.sampled_from([8.0, 15.0, 16.0, 23.976, 24.0, 25.0, 29.97, 30.0, 59.94, 60.0]),
    target=st.sampled_from([8.0, 12.0, 16.0, 24.0, 25.0, 30.0]),
)
def test_resampling_drops_and_never_repeats(frames, source, target):
    kept = resample(frames, source, target)
    assert kept[0] == 0
    assert list(kept) == sorted(set(kept))
    assert kept[-1] < frames
    if source <= target:
        assert kept == tuple(range(frames))
        return
    for j, index in enumerate(kept):  # nearest earlier frame: begun, and the next one not yet
        assert index / source <= j / target + 1e-4
        assert (index + 1) / source > j / target - 1e-4
    assert len(kept) == pytest.approx(frames * target / source, abs=1)


def test_resampling_by_whole_numbers_is_exact():
    assert resample(9, 30.0, 10.0) == (0, 3, 6)
    assert resample(8, 24.0, 16.0) == (0, 1, 3, 4, 6, 7)
    assert resample(600, 60, 10) == tuple(range(0, 600, 6))


def test_unknown_and_slower_rates_keep_every_frame():
    assert resample(5, None, 16.0) == resample(5, 12.0, 16.0) == resample(5, 30.0, None)
    assert resample(5, 12.0, 16.0) == (0, 1, 2, 3, 4)
    with pytest.raises(ValueError, match="0 frames cannot be resampled"):
        resample(0, 16.0, 16.0)


def test_modes_as_musubi_tuner_names_them():
    frames = range(20)

    def starts(mode, **options):
        clips = extract(frames, 7, mode, **options, grid=VIDEO)  # 7 is cut to 5
        assert all(clip == tuple(range(clip[0], clip[0] + len(clip))) for clip in clips)
        return [(clip[0], len(clip)) for clip in clips]

    assert starts("head") == [(0, 5)]
    assert starts("chunk") == [(0, 5), (5, 5), (10, 5), (15, 5)]
    assert starts("slide", stride=6) == [(0, 5), (6, 5), (12, 5)]
    assert starts("uniform", samples=4) == [(0, 5), (5, 5), (10, 5), (15, 5)]
    assert starts("uniform", samples=1) == [(0, 5)]
    assert starts("full") == [(0, 17)]
    assert starts("full", max_frames=12) == [(0, 9)]


@given(
    length=st.integers(1, 90),
    want=st.integers(1, 40),
    mode=st.sampled_from(["head", "chunk", "uniform", "slide", "full"]),
    stride=st.integers(1, 9),
    samples=st.integers(1, 6),
)
def test_every_clip_fits_the_grid_and_keeps_original_indices(length, want, mode, stride, samples):
    frames = resample(length * 2, 32.0, 16.0)
    clips = extract(frames, want, mode, stride=stride, samples=samples, max_frames=33, grid=VIDEO)
    assert clips
    assert len(set(clips)) == len(clips)
    for clip in clips:
        assert (len(clip) - 1) % 4 == 0
        assert len(clip) <= (33 if mode == "full" else want)
        start = frames.index(clip[0])
        assert clip == frames[start : start + len(clip)]


@pytest.mark.parametrize("mode", ["head", "chunk", "uniform", "slide", "full"])
def test_images_and_short_videos(mode):
    assert extract((0,), 81, mode, samples=3, grid=VIDEO) == [(0,)]
    assert extract((0,), 1, mode, grid=IMAGE) == [(0,)]
    assert extract(range(7), 81, mode, samples=1, stride=9, grid=VIDEO) == [(0, 1, 2, 3, 4)]


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="stride is 0, it must be at least 1"):
        extract(range(9), 5, "slide", stride=0, grid=VIDEO)
    with pytest.raises(ValueError, match="no frames to take a clip from"):
        extract((), 5, "head", grid=VIDEO)


def test_the_middle_as_diffusion_pipe_takes_it():
    """`int((frames - target_frames) / 2)` of its models/base.py at 8f83dbf."""
    for length in range(5, 60):
        ((first, *_),) = [clip for clip in extract(range(length), 5, "middle", grid=VIDEO)]
        assert first == int((length - 5) / 2)


def test_of_several_lengths_the_longest_that_fits():
    def taken(length):
        ((*clip,),) = extract(range(length), (33, 5, 17), "head", grid=VIDEO)
        return len(clip)

    assert [taken(n) for n in (3, 5, 16, 17, 32, 33, 99)] == [1, 5, 5, 17, 17, 33, 33]
    with pytest.raises(ValueError, match="no length"):
        extract(range(9), (), "head", grid=VIDEO)
    with pytest.raises(ValueError, match="want is 0"):
        extract(range(9), (0, 5), "head", grid=VIDEO)
