"""The colours of a picture as sRGB: by ICC profile, PNG chunk or code points (AVIF, HEIF)."""

import logging
import struct
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frisket.media.foreign import reason_of
from frisket.media.stills.profiles import (
    CURVES,
    HDR,
    NAMES,
    PRIMARIES,
    Conversion,
    conversion_of,
    convert_image,
    make_power,
    matrix_profile,
)

log = logging.getLogger(__name__)

HEAD = 1 << 20  # bytes in which the boxes of an AVIF or HEIF lie
GAMMAS = (0.43, 0.48)  # of a PNG's gAMA, which are shown as sRGB's
_warned: set[str] = set()  # names of colours, and faults, that were told of


def colours_of(image: Image.Image, path: Path) -> Conversion | None:
    """What a file that is open, not loaded, says of its colours; None for sRGB, or for nothing.

    A profile that cannot be read, or is for other colours than the picture has, is told of and
    ignored, as viewers do.
    """
    try:
        conversion = _find_conversion(image, path)
    except Exception as error:
        _tell(path, f"{reason_of(error)}, so its colours are taken for sRGB")
        return None
    if conversion is None or _fits(conversion, image.mode):
        return conversion
    _tell(
        path, f"its colour profile is for {conversion.space}, its pixels are {image.mode}: ignored"
    )
    return None


def _fits(conversion: Conversion, mode: str) -> bool:
    if conversion.space == "CMYK" or mode == "CMYK":
        return conversion.space == mode
    if conversion.space == "Lab" or mode == "LAB":
        return (conversion.space, mode) == ("Lab", "LAB")
    return conversion.space == "RGB" or mode in ("1", "L", "LA", "La", "I", "F") or mode[:2] == "I;"


def _find_conversion(image: Image.Image, path: Path) -> Conversion | None:
    """By precedence: PNG's cICP (PNG 3, 11.3.2.6), then a profile, then the rest."""
    if image.format == "PNG" and (points := _read_cicp(image)):
        return _find_by_code(path, *points)
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and profile:
        return conversion_of(profile)
    if image.format == "PNG":
        return _find_by_chunks(image)
    if image.format in ("AVIF", "HEIF") and (points := _read_nclx(image)):
        return _find_by_code(path, *points)
    return None


def _tell(path: Path, message: str) -> None:
    """Warn once of each kind of thing, with the first file of which it is true."""
    if message not in _warned:
        _warned.add(message)
        log.warning("%s: %s (others of which the same is true are not named)", path, message)


def tell_converted(conversion: Conversion, path: Path) -> None:
    """Say once of each profile that its colours are converted."""
    _tell(path, f"its colours are {conversion.name!r}; they are brought to sRGB")


def _find_by_code(path: Path, primaries: int, transfer: int) -> Conversion | None:
    """Colours by the code points of ITU-T H.273."""
    if transfer in HDR:
        _tell(
            path,
            f"is HDR ({HDR[transfer]}) and is read without tone mapping, so it looks pale: export"
            " it as SDR (sRGB)",
        )
    if primaries == 2:  # unspecified
        return None
    if primaries not in PRIMARIES:
        raise ValueError(f"it has primaries of code {primaries}")
    return _convert_codes(primaries, 13 if transfer in HDR else transfer)


@lru_cache(32)
def _convert_codes(primaries: int, transfer: int) -> Conversion | None:
    if transfer not in CURVES:
        raise ValueError(f"it has a transfer of code {transfer}")
    return conversion_of(matrix_profile(PRIMARIES[primaries], CURVES[transfer], NAMES[primaries]))


def _find_by_chunks(image: Image.Image) -> Conversion | None:
    """A PNG's sRGB, or gAMA and cHRM."""
    info = image.info
    gamma = info.get("gamma")
    if "srgb" in info or not isinstance(gamma, float) or gamma <= 0:
        return None
    chroma = info.get("chromaticity")
    if not isinstance(chroma, tuple) or len(chroma) != 8:
        corners = PRIMARIES[1]
    else:
        corners = (*chroma[2:], *chroma[:2])  # white comes first
    is_usual = GAMMAS[0] <= gamma <= GAMMAS[1]
    curve = CURVES[13] if is_usual else make_power(1 / gamma)
    return conversion_of(matrix_profile(corners, curve, f"gamma {gamma:g}"))


def _read_cicp(image: Image.Image) -> tuple[int, int] | None:
    """Primaries and transfer of a PNG's cICP chunk."""
    stream: IO[bytes] | None = getattr(image, "fp", None)
    if stream is None:
        return None
    place = stream.tell()
    stream.seek(8)
    points = None
    while len(head := stream.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        if head[4:] == b"cICP":
            body = stream.read(4)
            points = (body[0], body[1]) if len(body) == 4 else None
            break
        stream.seek(int.from_bytes(head[:4], "big") + 4, 1)
    stream.seek(place)
    return points


def _read_nclx(image: Image.Image) -> tuple[int, int] | None:
    """Primaries and transfer of an AVIF or HEIF; `note_code_points`, or pillow-heif, read them."""
    profile = image.info.get("nclx_profile")
    if not isinstance(profile, dict):
        return None
    return int(profile["color_primaries"]), int(profile["transfer_characteristics"])


def note_code_points(image: Image.Image, stream: IO[bytes]) -> None:
    """Keep what the first `colr` box of an AVIF says (ISO/IEC 14496-12): Pillow does not."""
    if image.format != "AVIF":
        return
    stream.seek(0)
    head = stream.read(HEAD)
    at = head.find(b"colrnclx")
    if at >= 0 and len(head) >= at + 12:
        codes = struct.unpack(">HH", head[at + 8 : at + 12])
        image.info["nclx_profile"] = dict(
            zip(("color_primaries", "transfer_characteristics"), codes, strict=True)
        )


def in_srgb(image: Image.Image, conversion: Conversion | None) -> NDArray[np.uint8]:
    """H W 3 of (a band of) a loaded picture of at most 8 bits a channel."""
    converted_image = _convert_mode(image, conversion)
    return np.asarray(
        converted_image if conversion is None else convert_image(converted_image, conversion)
    )


def _convert_mode(image: Image.Image, conversion: Conversion | None) -> Image.Image:
    """In the mode that is converted: RGB without alpha, unless the profile is for another."""
    if image.mode in ("RGBa", "La"):  # premultiplied: Pillow converts these by one way only
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    mode = "RGB"
    if conversion is not None and conversion.space != "RGB":
        mode = {"GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}[conversion.space]
    return image if image.mode == mode else image.convert(mode)
