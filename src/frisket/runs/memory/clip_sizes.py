"""The largest clip of a configuration, by what its data sets ask for; no file is opened."""

from frisket.config.tree import Config, Data
from frisket.families.base import Variant


def find_size(config: Config, variant: Variant) -> tuple[int, int, int]:
    """Frames, height and width of the largest clip that may be trained."""
    sizes = [_size_of(data, variant) for data in config.data] or [
        (variant.frames, variant.height, variant.width)
    ]
    return max(sizes, key=lambda size: size[0] * size[1] * size[2])


def _size_of(data: Data, variant: Variant) -> tuple[int, int, int]:
    grid = variant.grid
    resolution = data.resolution or (variant.width, variant.height)
    width, height = (resolution, resolution) if isinstance(resolution, int) else resolution
    wanted = data.max_frames if data.extract == "full" else data.frames or variant.frames
    frames = wanted if isinstance(wanted, int) else max(wanted)
    whole = [max(grid.step, side // grid.step * grid.step) for side in (height, width)]
    return grid.fit_frames(frames if variant.video else 1), whole[0], whole[1]
