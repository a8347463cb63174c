"""ICC profiles: made from primaries and a curve, and turned into a conversion to sRGB."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Matrix = NDArray[np.float64]
ToneCurve = Callable[
    [NDArray[np.float64]], NDArray[np.float64]
]  # from stored values to light, [0, 1]

LATTICE = 9  # values of each channel that a profile is tried with
SAME = 2  # levels by which a conversion may move colours and still be called none
STEPS = 1024  # entries of a tone curve
D50 = np.array([0.9642, 1.0, 0.8249])  # ICC.1:2010, 7.2.16
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)  # ICC.1:2010, annex E

# x, y of red, green, blue and white by ITU-T H.273, table 2.
PRIMARIES: dict[int, tuple[float, ...]] = {
    1: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}
NAMES = {1: "BT.709", 5: "BT.601", 6: "BT.601", 7: "BT.601", 9: "BT.2020", 11: "DCI P3"}
NAMES |= {4: "NTSC", 12: "Display P3"}


def _decode_srgb(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def make_power(exponent: float) -> ToneCurve:
    """The curve of a plain gamma."""
    return lambda values: values**exponent


# By H.273, table 3. Players and browsers show BT.709's own curve with that of sRGB.
CURVES: dict[int, ToneCurve] = dict.fromkeys((1, 2, 6, 13, 14, 15), _decode_srgb)
CURVES |= {4: make_power(2.2), 5: make_power(2.8), 8: make_power(1.0), 17: make_power(2.6)}
HDR = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a picture's colours become those of sRGB; `name` is what they are now."""

    name: str
    profile: bytes
    space: str  # of the profile: RGB, GRAY, CMYK, LAB


def matrix_profile(primaries: Sequence[float], curve: ToneCurve, name: str) -> bytes:
    """An ICC version 2 display profile; ValueError for primaries that span no colours.

    `primaries` are x, y of red, green, blue and white, `curve` is that of all three.
    """
    xy = np.asarray(primaries, np.float64).reshape(4, 2)
    if not np.isfinite(xy).all() or (xy[:, 1] <= 0).any():
        raise ValueError(f"no colours have the primaries {list(primaries)}")
    xyz = np.stack([xy[:, 0] / xy[:, 1], np.ones(4), (1 - xy.sum(1)) / xy[:, 1]])
    if abs(np.linalg.det(xyz[:, :3])) < 1e-6:
        raise ValueError(f"the primaries {list(primaries)} lie on a line")
    columns = xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])
    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ xyz[:, 3])) @ BRADFORD
    columns = adapt @ columns
    light = np.clip(curve(np.linspace(0, 1, STEPS)), 0, 1)
    table = b"curv" + bytes(4) + struct.pack(">I", STEPS)
    table += np.rint(light * 65535).astype(">u2").tobytes()
    text = name.encode("ascii", "replace") + b"\0"
    described = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": described, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _encode_xyz(D50)}
    tags |= {key: _encode_xyz(columns[:, at]) for at, key in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return _assemble(tags, {key: table for key in (b"rTRC", b"gTRC", b"bTRC")})


def _encode_xyz(values: Matrix) -> bytes:
    return b"XYZ " + bytes(4) + np.rint(values * 65536).astype(">i4").tobytes()


def _assemble(tags: dict[bytes, bytes], shared: dict[bytes, bytes]) -> bytes:
    """Header, table of tags and their content; `shared` tags have one content."""
    count = len(tags) + len(shared)
    at, table, content = 128 + 4 + 12 * count, b"", b""
    for key, body in tags.items():
        padded = body + bytes(-len(body) % 4)
        table += key + struct.pack(">II", at + len(content), len(body))
        content += padded
    body = next(iter(shared.values()))
    for key in shared:
        table += key + struct.pack(">II", at + len(content), len(body))
    content += body + bytes(-len(body) % 4)
    size = at + len(content)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(24) + bytes(4)
    header += _encode_xyz(D50)[8:]
    header = header.ljust(128, b"\0")
    return header + struct.pack(">I", count) + table + content


def open_profile(profile: bytes) -> ImageCms.ImageCmsProfile:
    """Pillow's profile; ValueError where it is none."""
    try:
        return ImageCms.ImageCmsProfile(BytesIO(profile))
    except Exception as error:
        raise ValueError("it is no ICC profile that can be read") from error


@lru_cache(64)
def conversion_of(profile: bytes) -> Conversion | None:
    """How a profile's colours become sRGB; None where they are (to two levels) sRGB's own.

    ValueError for a profile that cannot be read, or is of no colours.
    """
    handle = open_profile(profile)
    space = handle.profile.xcolor_space.strip()
    if space not in MODES:
        raise ValueError(f"its profile is for {space!r}, not for RGB, grey, CMYK or Lab")
    conversion = Conversion(_read_name(handle), profile, space)
    if space in ("RGB", "GRAY") and _does_nothing(conversion):
        return None
    transform_of(conversion)  # a profile without the tables it needs fails here
    return conversion


MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}


def _read_name(profile: ImageCms.ImageCmsProfile) -> str:
    try:
        name = ImageCms.getProfileDescription(profile)
    except Exception:
        name = ""
    return " ".join(name.split())[:60] or "a profile without a name"


def _does_nothing(conversion: Conversion) -> bool:
    levels = np.rint(np.linspace(0, 255, LATTICE)).astype(np.uint8)
    if conversion.space == "GRAY":
        grey = np.arange(256, dtype=np.uint8)[None]
        image, expected = Image.fromarray(grey), np.repeat(grey[..., None], 3, -1)
    else:
        grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1)
        expected = grid.reshape(1, -1, 3)
        image = Image.fromarray(expected)
    turned = np.asarray(convert_image(image, conversion)).astype(int)
    return bool(np.abs(turned - expected.astype(int)).max() <= SAME)


@lru_cache(16)
def transform_of(conversion: Conversion) -> Any:
    """Pillow's transform to sRGB: relative colorimetric, black point kept.

    By it what both can show stays as it is; of what sRGB cannot show the nearest is taken.
    Profiles of printers have tables of their own for the perceptual intent, which viewers use.
    """
    perceptual = conversion.space == "CMYK"
    intent = ImageCms.Intent.PERCEPTUAL if perceptual else ImageCms.Intent.RELATIVE_COLORIMETRIC
    try:
        return ImageCms.buildTransform(
            open_profile(conversion.profile),
            ImageCms.createProfile("sRGB"),
            MODES[conversion.space],
            "RGB",
            renderingIntent=intent,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except ImageCms.PyCMSError as error:
        raise ValueError(f"its profile cannot be used ({error})") from error


def convert_image(image: Image.Image, conversion: Conversion) -> Image.Image:
    """A picture of the profile's own mode, in sRGB (mode RGB)."""
    result = ImageCms.applyTransform(image, transform_of(conversion))
    assert result is not None  # only of a conversion in place
    return result
