"""Little media written for real: pictures, videos and folders of frames."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

Encode = Callable[..., Path]


@pytest.fixture
def numbered() -> Callable[..., np.ndarray]:
    """F H W 3 whose every frame is flat grey at 8 * its index, so that a frame tells its number."""

    def make(count: int, height: int = 32, width: int = 48) -> np.ndarray:
        levels = (np.arange(count) * 8).astype(np.uint8)
        return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()

    return make


@pytest.fixture
def gradient() -> Callable[..., np.ndarray]:
    """F H W 3 in which every pixel differs from its neighbours, channel by channel."""

    def make(count: int = 1, height: int = 32, width: int = 48) -> np.ndarray:
        y, x = np.mgrid[:height, :width]
        frames = [np.stack([x * 5 + i, y * 7 + i, x + y], -1) for i in range(count)]
        return (np.stack(frames) % 256).astype(np.uint8)

    return make


@pytest.fixture
def encode() -> Encode:
    """Write F H W C (uint8 or uint16) with any codec, as another program would."""

    def write(
        path: Path,
        frames: Sequence[np.ndarray],
        codec: str = "libx264",
        pixels: str = "yuv420p",
        *,
        source: str = "rgb24",
        fps: float = 16,
        rotation: int = 0,
        container: str | None = None,
        **options: str,
    ) -> Path:
        flags = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
        with av.open(str(path), "w", format=container, container_options=flags) as out:
            rate = Fraction(fps).limit_denominator(100_000)
            stream = out.add_stream(codec, rate=rate, options=options)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = pixels
            if rotation:
                stream.set_display_rotation(rotation)
            for array in frames:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format=source)
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        return path

    return write


@pytest.fixture
def picture(gradient: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """Save an array (or a Pillow image) as an image file, folders made."""

    def save(path: Path, array: np.ndarray | Image.Image | None = None, **options: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = array if isinstance(array, Image.Image) else None
        if image is None:
            image = Image.fromarray(gradient()[0] if array is None else array)
        image.save(path, **options)
        return path

    return save
