"""One rule says which way up a picture is: for its size, its pixels and its masks alike."""

import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from frisket.media.frames import decode, probe
from frisket.media.images import read_orientation
from frisket.media.stills.orientation import METHODS, turn_upright

SCENE = (np.add.outer(np.arange(32) * 5, np.arange(48) * 2)[..., None] + [0, 30, 60]) % 256


def scene() -> Image.Image:
    return Image.fromarray(SCENE.astype(np.uint8))


def exif(kind: int, count: int, value: bytes) -> bytes:
    """EXIF whose orientation has any TIFF type, and any number of values."""
    place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", 26)
    entry = struct.pack("<HHI", 274, kind, count) + place
    more = value if len(value) > 4 else b""
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + bytes(4) + more


def jpeg(path, content: bytes) -> None:
    scene().save(path, quality=95, exif=content)


@pytest.mark.parametrize(
    ("kind", "count", "value", "orientation"),
    [
        (3, 1, b"\x06\0", 6),  # SHORT, as the standard has it
        (4, 1, b"\x08\0\0\0", 8),  # LONG
        (3, 1, b"\x09\0", 1),
        (3, 1, b"\0\0", 1),
        (1, 1, b"\x06", 1),  # BYTE
        (2, 2, b"6\0", 1),  # ASCII
        (7, 1, b"\x06", 1),  # UNDEFINED
        (5, 1, struct.pack("<II", 6, 1), 1),  # RATIONAL
        (5, 1, struct.pack("<II", 6, 0), 1),
        (12, 1, struct.pack("<d", float("nan")), 1),  # DOUBLE
    ],
)
@pytest.mark.filterwarnings("ignore")  # of Pillow, of several values
def test_odd_orientations_turn_nothing_and_size_and_pixels_agree(
    tmp_path, kind, count, value, orientation
):
    path = tmp_path / "a.jpg"
    jpeg(path, exif(kind, count, value))
    seen, frame = probe(path), decode(path)[0]
    assert read_orientation(path)[0] == orientation
    assert (seen.height, seen.width) == tuple(frame.shape[:2])
    assert (seen.width == 32) == (orientation >= 5)


def test_exif_that_cannot_be_read_is_no_reason_to_refuse_a_picture(tmp_path, caplog):
    path = tmp_path / "a.jpg"
    jpeg(path, b"Exif\0\0" + b"no TIFF at all, by no means")
    assert decode(path).shape == (1, 32, 48, 3)
    assert (probe(path).height, probe(path).width) == (32, 48)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_xmp_counts_where_exif_says_nothing(tmp_path, orientation):
    info = PngImagePlugin.PngInfo()
    told = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'
    info.add_itxt("XML:com.adobe.xmp", told)
    scene().save(tmp_path / "a.png", pnginfo=info)
    upright = scene().transpose(METHODS[orientation]) if orientation > 1 else scene()
    assert (decode(tmp_path / "a.png")[0].numpy() == np.asarray(upright)).all()
    assert probe(tmp_path / "a.png").width == upright.width


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif"])
def test_every_format_is_turned_once(tmp_path, orientation, suffix):
    path = tmp_path / f"a{suffix}"
    tags = Image.Exif()
    tags[274] = orientation
    options = {".webp": {"lossless": True}, ".avif": {"quality": 100, "subsampling": "4:4:4"}}
    scene().save(path, exif=tags, **options.get(suffix, {}))
    upright = np.asarray(scene().transpose(METHODS[orientation]) if orientation > 1 else scene())
    frame = decode(path)[0].numpy()
    assert frame.shape == upright.shape
    assert np.abs(frame.astype(int) - upright).max() <= (4 if suffix == ".avif" else 0)
    assert read_orientation(path)[1] == upright.shape[:2]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_arrays_are_turned_as_pictures_are(orientation):
    assert (
        turn_upright(SCENE, orientation) == np.asarray(_cast().transpose(METHODS[orientation]))
    ).all()


def _cast() -> Image.Image:
    return Image.fromarray(SCENE.astype(np.uint8))
