"""What foreign decoders raise and warn of names the file; large files are refused by number."""

import logging
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from frisket.media import foreign, frames, images
from frisket.media.foreign import decoding, show_warnings
from frisket.media.frames import decode, decode_grey, probe
from frisket.media.paths import BadMedia, escape, is_text


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png(width, height):
    """The header of a grey PNG, and no pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "error",
    [
        *(IndexError("index out of range"), RuntimeError("no"), KeyError("x"), TypeError("y")),
        *(RecursionError("deep"), AssertionError(), OverflowError("o"), struct.error("s")),
        *(Image.DecompressionBombWarning("large"), NotImplementedError(), ZeroDivisionError()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_exception_of_a_decoder_names_the_file(tmp_path, error):
    said = pytest.raises(BadMedia, match=r"a\.png: it is broken or cut short \(")
    with said as told, decoding(tmp_path / "a.png"):
        raise error
    assert "\n" not in str(told.value)
    assert told.value.__cause__ is error


def test_what_is_of_the_machine_is_not_said_of_the_file(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(BadMedia, match="needs more memory than there is left"), decoding(path):
        raise MemoryError
    said = pytest.raises(BadMedia, match=r"cannot be read \(Permission denied\)")
    with said, decoding(path):
        raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_program_passes(tmp_path, error):
    with pytest.raises(error), decoding(tmp_path / "a.png"):
        raise error


@pytest.mark.filterwarnings("ignore")  # of Pillow, at half of its own limit
def test_large_pictures_are_refused_by_their_header(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png(20_000, 10_501))
    for look in (probe, decode, decode_grey):
        with pytest.raises(BadMedia, match=r"is 20000 x 10501, 210 million pixels"):
            look(path)
    path.write_bytes(png(30_000, 15_000))  # larger than Pillow opens
    with pytest.raises(BadMedia, match="more than 210 million pixels"):
        probe(path)


def test_a_webp_of_a_kilobyte_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "a.webp"
    size = (16382).to_bytes(3, "little") + (10899).to_bytes(3, "little")
    header = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size
    frame = b"VP8L" + struct.pack("<I", 8) + b"\x2f\0\0\0\0\x88\x88\x08"
    content = b"WEBP" + header + frame
    path.write_bytes(b"RIFF" + struct.pack("<I", len(content)) + content)
    with pytest.raises(BadMedia, match=r"a\.webp: "):
        probe(path)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_large_mask_is_held_once(tmp_path, mode, monkeypatch):
    monkeypatch.setattr(images, "BAND", 1 << 18)
    path, side = tmp_path / "large.png", 2048
    image = Image.new(mode, (side, side), 255 if mode == "L" else (255, 255, 255))
    image.save(path, compress_level=1)
    tracemalloc.start()
    assert float(decode_grey(path).min()) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Its float32 plane, 4 bytes a pixel, and levels of one byte; never three colours beside them.
    assert peak < side * side * 7


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1", "CMYK", "LA", "I;16"])
def test_bands_change_nothing(tmp_path, mode, gradient, monkeypatch):
    picture = Image.fromarray(gradient(1, 37, 23)[0])
    image = (
        picture.convert("L").convert("I").convert("I;16") if ";" in mode else picture.convert(mode)
    )
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    whole = decode(path)
    monkeypatch.setattr(images, "BAND", 23 * 4)
    assert (decode(path) == whole).all()


def test_animations_of_too_many_frames_or_pixels(tmp_path, gradient, monkeypatch):
    path = tmp_path / "a.gif"
    stills = [Image.fromarray(one).convert("P") for one in gradient(6)]
    stills[0].save(path, save_all=True, append_images=stills[1:], duration=40)
    assert probe(path).frames == 6
    monkeypatch.setattr(images, "FRAMES", 5)
    monkeypatch.setattr(foreign, "FRAMES", 5)
    for look in (probe, decode, lambda path: next(frames.stream(path))):
        with pytest.raises(BadMedia, match=r"a\.gif: .* more than 5 frames, .* make it a video"):
            look(path)
    monkeypatch.setattr(foreign, "FRAMES", 6)
    monkeypatch.setattr(foreign, "MOVING", 6 * 32 * 48 - 1)
    with pytest.raises(BadMedia, match=r"6 frames of 48 x 32"):
        probe(path)


def test_frames_of_a_gif_are_counted_as_pillow_does(tmp_path, gradient):
    path = tmp_path / "a.gif"
    for count in (1, 2, 7):
        stills = [Image.fromarray(one).convert("P") for one in gradient(count)]
        stills[0].save(path, save_all=True, append_images=stills[1:], comment=b"x" * 600)
        with path.open("rb") as stream:
            assert images._count_gif(stream) == count


def test_videos_of_too_many_pixels(tmp_path, gradient, encode, monkeypatch):
    from frisket.media import videos

    path = encode(tmp_path / "a.mp4", gradient(3, 64, 64))
    monkeypatch.setattr(foreign, "PIXELS", 64 * 64 - 1)
    with pytest.raises(BadMedia, match=r"a\.mp4: is 64 x 64, "):
        probe(path)
    monkeypatch.setattr(foreign, "PIXELS", 64 * 64)
    monkeypatch.setattr(videos, "_LIMITS", {"max_pixels": "1000"})  # where a header said less
    with pytest.raises(BadMedia, match=r"a\.mp4: "):
        decode(path)


@pytest.mark.parametrize(
    "content", ["%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "P3 1 1 255 0 0 0"]
)
def test_other_formats_under_the_name_of_a_picture(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_text(content)
    with pytest.raises(BadMedia, match=r"a\.png: not an image Pillow knows"):
        probe(path)


@pytest.mark.filterwarnings("always")
def test_what_pillow_warns_of_names_the_file_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(foreign, "_known", set())
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("ignore")
        show_warnings()
        for name in ("a.png", "b.png"):
            Image.new("RGB", (12, 12)).save(tmp_path / name)
            assert decode(tmp_path / name).shape == (1, 12, 12, 3)
    (record,) = caplog.records
    assert "a.png: Image size (144 pixels) exceeds limit" in record.getMessage()


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_masks_that_hold_no_numbers(tmp_path, strange):
    values = np.zeros((8, 8), np.float32)
    values[2, 3] = strange
    Image.fromarray(values).save(tmp_path / "a.tif")
    for look in (decode_grey, decode):
        with pytest.raises(BadMedia, match=r"a\.tif: 1 of its 64 pixels are no numbers"):
            look(tmp_path / "a.tif")


def test_names_that_are_no_text():
    assert is_text("é 日本.png")
    assert not is_text("\udcff.png")
    assert escape("caf\udce9.png") == r"caf\xe9.png"
