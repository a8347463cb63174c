"""Videos as other programs write them: time stamps, display matrices and colour tags at will."""

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

Shoot = Callable[..., Path]


@pytest.fixture
def shoot() -> Shoot:
    """Write frames whose time stamps are given in ticks of `base`, with any codec and tags."""

    def write(
        path: Path,
        frames: Sequence[np.ndarray],
        stamps: Sequence[int] | None = None,
        *,
        base: Fraction = Fraction(1, 1000),
        codec: str = "libx264",
        pixels: str = "yuv420p",
        source: str = "rgb24",
        rate: Fraction | int = 30,
        matrix: Sequence[int] | None = None,
        aspect: Fraction | None = None,
        tags: tuple[int, int, int] | None = None,  # matrix, primaries, curve
        **options: str,
    ) -> Path:
        with av.open(str(path), "w") as out:
            stream = out.add_stream(codec, rate=rate, options=options)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = pixels
            told = stream.codec_context
            if stamps is not None:
                told.time_base = base
            if aspect:
                told.sample_aspect_ratio = aspect
            if matrix:
                stream.set_display_matrix(list(matrix))
            how: dict[str, Any] = {}
            if tags:
                told.colorspace, told.color_primaries, told.color_trc = tags
                told.color_range = 1
                how = {"dst_colorspace": {1: 1, 9: 9}.get(tags[0], 5), "dst_color_range": 1}
            for index, array in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format=source)
                frame = frame.reformat(format=pixels, **how)
                if stamps is not None:
                    frame.pts, frame.time_base = stamps[index], base
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        return path

    return write


@pytest.fixture(scope="session")
def recorded() -> dict[str, Any]:
    """What FFmpeg's own program shows (scripts/record_ffmpeg_display.py)."""
    told: dict[str, Any] = json.loads((Path(__file__).parent / "ffmpeg.json").read_text())
    return told
