"""Colours are sRGB's: by profile, PNG chunk or code point; masks keep their numbers."""

import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from frisket.masks.read import read
from frisket.media.frames import decode, decode_grey, decode_index, decode_numbers, probe
from frisket.media.images import colour_key
from frisket.media.stills import colour
from frisket.media.stills.profiles import CURVES, PRIMARIES, matrix_profile

P3 = matrix_profile(PRIMARIES[12], CURVES[13], "Display P3")
STORED, SEEN = (200, 40, 40), (218, 0, 26)  # in Display P3; in sRGB, by its defining matrices


@pytest.fixture(autouse=True)
def _nothing_was_told():
    colour._warned.clear()


def flat(value: tuple[int, ...] | int = STORED, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (24, 16), value)


def near(path, wanted, levels: int = 3) -> bool:
    seen = decode(path)[0, 8, 12].tolist()
    assert np.abs(np.subtract(seen, wanted)).max() <= levels, seen
    return True


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def with_chunks(path, *chunks: bytes) -> None:
    """Put chunks behind the header of a PNG."""
    whole = path.read_bytes()
    path.write_bytes(whole[:33] + b"".join(chunks) + whole[33:])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_a_wide_gamut_profile_is_brought_to_srgb_and_told_once(tmp_path, suffix, caplog):
    for name in "ab":
        options = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}
        flat().save(tmp_path / f"{name}{suffix}", icc_profile=P3, **options.get(suffix, {}))
    with caplog.at_level(logging.WARNING):
        assert near(tmp_path / f"a{suffix}", SEEN)
        assert near(tmp_path / f"b{suffix}", SEEN)
    assert caplog.text.count("'Display P3'") == 1


def test_alpha_and_palettes_are_converted_too(tmp_path):
    flat((*STORED, 90), "RGBA").save(tmp_path / "a.png", icc_profile=P3)
    flat().convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "b.png", icc_profile=P3)
    assert near(tmp_path / "a.png", SEEN)
    assert near(tmp_path / "b.png", SEEN)


def test_profiles_of_srgb_change_nothing_and_no_cache_key(tmp_path):
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    made = matrix_profile(PRIMARIES[1], CURVES[13], "sRGB made by hand")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8))
    for name, profile in {"none": None, "own": own, "made": made}.items():
        noise.save(tmp_path / f"{name}.png", **({"icc_profile": profile} if profile else {}))
        assert colour_key(tmp_path / f"{name}.png") == ""
        assert (decode(tmp_path / f"{name}.png")[0].numpy() == np.asarray(noise)).all()
    flat().save(tmp_path / "p3.png", icc_profile=P3)
    assert colour_key(tmp_path / "p3.png")


def test_broken_and_unfitting_profiles_are_told_and_ignored(tmp_path, caplog):
    flat().save(tmp_path / "broken.png", icc_profile=b"no profile" * 20)
    flat().save(tmp_path / "cut.png", icc_profile=P3[: len(P3) // 2])
    grey = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    flat().save(tmp_path / "lab.png", icc_profile=grey)
    for name in ("broken", "cut", "lab"):
        assert near(tmp_path / f"{name}.png", STORED, 0)
    assert "taken for sRGB" in caplog.text
    assert "ignored" in caplog.text


def test_grey_pictures_with_a_colour_profile_stay_grey(tmp_path):
    flat(100, "L").save(tmp_path / "a.png", icc_profile=P3)
    assert near(tmp_path / "a.png", (100, 100, 100), 1)
    deep = Image.fromarray(np.full((16, 24), 100 * 257, np.uint16))
    deep.save(tmp_path / "b.png", icc_profile=P3)
    assert near(tmp_path / "b.png", (100, 100, 100), 1)


def test_png_chunks(tmp_path):
    # 55 of 255 as light is 0.2157, which sRGB writes as 128.
    for name, chunks in {
        "gamma": [chunk(b"gAMA", struct.pack(">I", 100_000))],
        "srgb": [chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 100_000))],
        "usual": [chunk(b"gAMA", struct.pack(">I", 45_455))],
    }.items():
        flat((55, 55, 55)).save(tmp_path / f"{name}.png")
        with_chunks(tmp_path / f"{name}.png", *chunks)
    assert near(tmp_path / "gamma.png", (128, 128, 128), 1)
    assert near(tmp_path / "srgb.png", (55, 55, 55), 0)
    assert near(tmp_path / "usual.png", (55, 55, 55), 0)
    corners = [31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000]
    flat().save(tmp_path / "wide.png")
    with_chunks(
        tmp_path / "wide.png",
        chunk(b"gAMA", struct.pack(">I", 45_455)),
        chunk(b"cHRM", struct.pack(">8I", *corners)),
    )
    assert near(tmp_path / "wide.png", SEEN)


def test_the_code_points_of_png_go_before_its_profile(tmp_path, caplog):
    flat().save(tmp_path / "a.png", icc_profile=P3)
    with_chunks(tmp_path / "a.png", chunk(b"cICP", bytes([1, 13, 0, 1])))
    assert near(tmp_path / "a.png", STORED, 0)
    flat().save(tmp_path / "b.png")
    with_chunks(tmp_path / "b.png", chunk(b"cICP", bytes([12, 13, 0, 1])))
    assert near(tmp_path / "b.png", SEEN)
    flat().save(tmp_path / "hdr.png")
    with_chunks(tmp_path / "hdr.png", chunk(b"cICP", bytes([9, 16, 0, 1])))
    decode(tmp_path / "hdr.png")
    assert "HDR (PQ)" in caplog.text


def test_the_code_points_of_avif(tmp_path):
    path = tmp_path / "a.avif"
    flat().save(path, quality=100, subsampling="4:4:4")
    whole = path.read_bytes()
    place = whole.index(b"colrnclx") + 8
    path.write_bytes(whole[:place] + struct.pack(">HH", 12, 13) + whole[place + 4 :])
    assert near(path, SEEN, 4)


def test_masks_keep_their_numbers(tmp_path):
    path = tmp_path / "mask.png"
    labels = np.zeros((16, 24, 3), np.uint8)
    labels[:8] = STORED
    Image.fromarray(labels).save(path, icc_profile=P3)
    assert decode_numbers(path)[0, 0, 0].tolist() == list(STORED)
    media = probe(path)
    how = {"clip": media, "alpha": False, "picks": (0,), "regions": ["face"]}
    planes = read({"": path}, legend={"face": STORED}, **how)
    assert planes["face"].sum() == 8 * 24
    steep = matrix_profile(PRIMARIES[1], CURVES[8], "linear")
    Image.fromarray(labels[..., 0]).save(path, icc_profile=steep)
    assert set(np.unique(decode_index(path).numpy()).tolist()) == {0, 200}
    assert float(decode_grey(path).max()) == pytest.approx(200 / 255)
