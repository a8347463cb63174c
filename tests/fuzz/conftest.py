"""Whole little files of every kind that is read, to be damaged; each is made once."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, features


def drawn(frames: int = 1, height: int = 24, width: int = 32) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    each = [np.stack([x * 5 + i * 9, y * 7 + i, x + y], -1) for i in range(frames)]
    return (np.stack(each) % 256).astype(np.uint8)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.fixture(scope="session")
def pictures() -> dict[str, bytes]:
    """Files by name: every format in several modes, still and animated."""
    rgb = Image.fromarray(drawn()[0])
    moving = [Image.fromarray(each) for each in drawn(5)]
    grey = rgb.convert("L")
    clear = rgb.convert("RGBA")
    clear.putalpha(grey)
    deep = Image.fromarray(drawn()[0, ..., 0].astype(np.uint16) * 257)
    lines = [(one.convert("P"), f"p{i}") for i, one in enumerate(moving[:1])]
    more = {"save_all": True, "append_images": moving[1:], "duration": 40}
    files = {
        "rgb.png": saved(rgb, "PNG", exif=turned()),
        "grey.png": saved(grey, "PNG"),
        "bit.png": saved(grey.convert("1"), "PNG"),
        "alpha.png": saved(clear, "PNG"),
        "deep.png": saved(deep, "PNG"),
        "palette.png": saved(lines[0][0], "PNG", transparency=3),
        "moving.png": saved(moving[0], "PNG", **more),
        "photo.jpg": saved(rgb, "JPEG", exif=turned(), progressive=True),
        "cmyk.jpg": saved(rgb.convert("CMYK"), "JPEG"),
        "grey.jpg": saved(grey, "JPEG"),
        "still.gif": saved(rgb.convert("P"), "GIF"),
        "moving.gif": saved(moving[0].convert("P"), "GIF", loop=0, **more),
        "lossy.webp": saved(rgb, "WEBP", exif=turned()),
        "alpha.webp": saved(clear, "WEBP", lossless=True),
        "moving.webp": saved(moving[0], "WEBP", **more),
        "rgb.bmp": saved(rgb, "BMP"),
        "palette.bmp": saved(rgb.convert("P"), "BMP"),
        "rgb.tif": saved(rgb, "TIFF", compression="tiff_lzw", exif=turned()),
        "deep.tif": saved(deep, "TIFF", compression="tiff_adobe_deflate"),
        "float.tif": saved(Image.fromarray(np.float32(drawn()[0, ..., 0] / 255)), "TIFF"),
    }
    if features.check("avif"):
        files |= {
            "still.avif": saved(rgb, "AVIF"),
            "moving.avif": saved(moving[0], "AVIF", **more),
        }
    return files


Encode = Callable[[Path, str, str], bytes]


def encoded(path: Path, codec: str, pixels: str) -> bytes:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(16))
        stream.width, stream.height, stream.pix_fmt = 32, 24, pixels
        for array in drawn(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory, pictures: dict[str, bytes]) -> dict[str, bytes]:
    """Videos by name: the containers and codecs people have."""
    folder = tmp_path_factory.mktemp("films")
    kinds = {
        "h264.mp4": ("libx264", "yuv420p"),
        "h264.mov": ("libx264", "yuv420p"),
        "h264.ts": ("libx264", "yuv420p"),
        "h264.mkv": ("libx264", "yuv420p"),
        "labels.mkv": ("ffv1", "gray"),
        "vp8.webm": ("libvpx", "yuv420p"),
        "vp9.webm": ("libvpx-vp9", "yuva420p"),
        "mpeg4.avi": ("mpeg4", "yuv420p"),
        "mjpeg.avi": ("mjpeg", "yuvj420p"),
        "mpeg2.mpg": ("mpeg2video", "yuv420p"),
    }
    made = {name: encoded(folder / name, *how) for name, how in kinds.items()}
    return made | {"film.gif": pictures["moving.gif"]}
