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
    converted,
    matrix_profile,
    power,
)

log = logging.getLogger(__name__)

HEAD = 1 << 20  # bytes in which the boxes of an AVIF or HEIF lie
GAMMAS = (0.43, 0.48)  # of a PNG's gAMA, which are shown as sRGB's
_told: set[str] = set()  # names of colours, and faults, that were told of


def colours_of(image: Image.Image, path: Path) -> Conversion | None:
    """What a file that is open, not loaded, says of its colours; None for sRGB, or for nothing.

    A profile that cannot be read, or is for other colours than the picture has, is told of and
    ignored, as viewers do.
    """
    try:
        found = _found(image, path)
    except Exception as error:
        _tell(path, f"{reason_of(error)}, so its colours are taken for sRGB")
        return None
    if found is None or _fits(found, image.mode):
        return found
    _tell(path, f"its colour profile is for {found.space}, its pixels are {image.mode}: ignored")
    return None


def _fits(found: Conversion, mode: str) -> bool:
    if found.space == "CMYK" or mode == "CMYK":
        return found.space == mode
    if found.space == "Lab" or mode == "LAB":
        return (found.space, mode) == ("Lab", "LAB")
    return found.space == "RGB" or mode in ("1", "L", "LA", "La", "I", "F") or mode[:2] == "I;"


def _found(image: Image.Image, path: Path) -> Conversion | None:
    """By precedence: PNG's cICP (PNG 3, 11.3.2.6), then a profile, then the rest."""
    if image.format == "PNG" and (points := _cicp(image)):
        return _by_code(path, *points)
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and profile:
        return conversion_of(profile)
    if image.format == "PNG":
        return _by_chunks(image)
    if image.format in ("AVIF", "HEIF") and (points := _nclx(image)):
        return _by_code(path, *points)
    return None


def _tell(path: Path, said: str) -> None:
    """Warn once of each kind of thing, with the first file of which it is true."""
    if said not in _told:
        _told.add(said)
        log.warning("%s: %s (others of which the same is true are not named)", path, said)


def tell_converted(found: Conversion, path: Path) -> None:
    """Say once of each profile that its colours are converted."""
    _tell(path, f"its colours are {found.name!r}; they are brought to sRGB")


def _by_code(path: Path, primaries: int, transfer: int) -> Conversion | None:
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
    return _coded(primaries, 13 if transfer in HDR else transfer)


@lru_cache(32)
def _coded(primaries: int, transfer: int) -> Conversion | None:
    if transfer not in CURVES:
        raise ValueError(f"it has a transfer of code {transfer}")
    return conversion_of(matrix_profile(PRIMARIES[primaries], CURVES[transfer], NAMES[primaries]))


def _by_chunks(image: Image.Image) -> Conversion | None:
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
    usual = GAMMAS[0] <= gamma <= GAMMAS[1]
    curve = CURVES[13] if usual else power(1 / gamma)
    return conversion_of(matrix_profile(corners, curve, f"gamma {gamma:g}"))


def _cicp(image: Image.Image) -> tuple[int, int] | None:
    """Primaries and transfer of a PNG's cICP chunk."""
    stream: IO[bytes] | None = getattr(image, "fp", None)
    if stream is None:
        return None
    place = stream.tell()
    stream.seek(8)
    found = None
    while len(head := stream.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        if head[4:] == b"cICP":
            body = stream.read(4)
            found = (body[0], body[1]) if len(body) == 4 else None
            break
        stream.seek(int.from_bytes(head[:4], "big") + 4, 1)
    stream.seek(place)
    return found


def _nclx(image: Image.Image) -> tuple[int, int] | None:
    """Primaries and transfer of an AVIF or HEIF; `note_code_points`, or pillow-heif, read them."""
    told = image.info.get("nclx_profile")
    if not isinstance(told, dict):
        return None
    return int(told["color_primaries"]), int(told["transfer_characteristics"])


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


def in_srgb(image: Image.Image, found: Conversion | None) -> NDArray[np.uint8]:
    """H W 3 of (a band of) a loaded picture of at most 8 bits a channel."""
    plain = _plain(image, found)
    return np.asarray(plain if found is None else converted(plain, found))


def _plain(image: Image.Image, found: Conversion | None) -> Image.Image:
    """In the mode that is converted: RGB without alpha, unless the profile is for another."""
    if image.mode in ("RGBa", "La"):  # premultiplied: Pillow converts these by one way only
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    wanted = "RGB"
    if found is not None and found.space != "RGB":
        wanted = {"GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}[found.space]
    return image if image.mode == wanted else image.convert(wanted)
