"""Which frames of a clip are trained on, and at which size: the windows of a data set's clips."""

from functools import lru_cache

from frisket.data.records import Clipset
from frisket.grid import LatentGrid
from frisket.media.buckets import bucket
from frisket.media.frames import Media, extract

bucket_of = lru_cache(4096)(bucket)  # clips of a set share few sizes


def cut_windows(
    clipset: Clipset, media: Media, grid: LatentGrid
) -> list[tuple[tuple[int, ...], tuple[int, int]]]:
    """Of each window its frames, by number in the file, and its height and width in pixels.

    Raises as `media.frames.extract` and `media.buckets.bucket` do.
    """
    how = clipset.windows
    runs = extract(
        media.clock.sample(how.fps),
        how.frames,
        how.mode,
        stride=how.stride,
        samples=how.samples,
        max_frames=how.max_frames,
        grid=grid,
    )
    return [
        (
            picks,
            bucket_of(
                media.height,
                media.width,
                len(picks),
                resolution=clipset.resolution,
                grid=grid,
                keep_aspect=clipset.keep_aspect,
                enlarge=clipset.enlarge,
            ),
        )
        for picks in runs
    ]
