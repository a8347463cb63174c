"""Decoded video frames to sRGB: the matrix that players guess, wide gamuts, HDR tone-mapped."""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from numpy.typing import NDArray

Gamut = Literal["bt2020", "p3"]
Light = Literal["sdr", "pq", "hlg"]
_LookupTable = NDArray[np.float32]
RULE = 1  # goes into cache keys of what is converted here; count up when the arithmetic changes

WHITE = 203.0  # cd/m2 of diffuse white in HDR (ITU-R BT.2408, table 1): it becomes SDR white
PEAK = 1000.0  # cd/m2 of the brightest highlight, where no metadata tells it
BRIGHTEST = 10_000.0  # cd/m2, the end of the PQ scale
HD = (576, 1279)  # untagged frames of more rows, or of more columns, are HD

_GAMUTS: dict[int, Gamut] = {
    ColorPrimaries.BT2020: "bt2020",
    ColorPrimaries.SMPTE431: "p3",
    ColorPrimaries.SMPTE432: "p3",
}
UNTOLD = 2  # AVCOL_SPC_UNSPECIFIED, and so for primaries and curve
_UNTOLD = (UNTOLD, 3, 0)  # what is reserved says nothing either; 0 is RGB among matrices
_NO_COLOURS = ("gray", "mono", "pal", "ya")
_MATRICES = {  # AVColorSpace to what libswscale calls them
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.SMPTE170M,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
_LIGHTS: dict[int, Light] = {ColorTrc.SMPTE2084: "pq", ColorTrc.ARIB_STD_B67: "hlg"}
# To linear BT.709, white D65; from the primaries of BT.2020 (BT.2087, annex 2) and Display P3.
_TO_709 = {
    "bt2020": (
        (1.660491, -0.587641, -0.072850),
        (-0.124550, 1.132900, -0.008349),
        (-0.018151, -0.100579, 1.118730),
    ),
    "p3": (
        (1.224940, -0.224940, 0.0),
        (-0.042057, 1.042057, 0.0),
        (-0.019638, -0.078636, 1.098274),
    ),
}
_LUMA_2020 = np.array((0.2627, 0.6780, 0.0593), np.float32)


@dataclass(frozen=True, slots=True)
class Colour:
    """How the frames of a video are to be understood; of its first frame, so that none flickers."""

    untagged: bool = False  # brightness and colour difference, and no word by which matrix
    matrix: Colorspace | None = None  # to read them by, where the frames themselves do not say
    full: bool = False  # levels from 0 to 255, where the frames themselves do not say
    gamut: Gamut | None = None  # wider than BT.709
    light: Light = "sdr"
    peak: float = PEAK  # cd/m2, of HDR

    @property
    def plain(self) -> bool:
        """Whether the levels are those of sRGB screens as they stand."""
        return self.gamut is None and self.light == "sdr"

    @property
    def range(self) -> ColorRange | None:
        """What their levels are to be read as, where the frames themselves do not say."""
        return ColorRange.JPEG if self.full else None

    def reading(self) -> tuple[str, ...]:
        """What is done to the levels besides decoding, for cache keys."""
        steps = [f"matrix {self.matrix.name}"] if self.matrix is not None else []
        steps += ["full range"] if self.full else []
        if not self.plain:
            steps.append(f"{self.light} {self.gamut or 'bt709'} {self.peak:g} rule {RULE}")
        return tuple(steps)


PLAIN = Colour()


@dataclass(frozen=True, slots=True)
class Tags:
    """What a container tells of its stream's colours, as FFmpeg numbers them."""

    matrix: int = UNTOLD
    primaries: int = UNTOLD
    curve: int = UNTOLD
    range: int = 0

    @staticmethod
    def of(stream: VideoStream) -> "Tags":
        """Of a stream that nothing was decoded from yet: decoders overwrite them."""
        context = stream.codec_context
        return Tags(
            context.colorspace, context.color_primaries, context.color_trc, context.color_range
        )


def colour_of(frame: VideoFrame, tags: Tags) -> Colour:
    """What the first frame of a video tells of its colours, or its container where it does not.

    Untagged HD is read by BT.709, smaller frames by BT.601, as players do (mpv, VLC, browsers).
    """
    yuv = not frame.format.is_rgb and not frame.format.name.startswith(_NO_COLOURS)
    silent = yuv and frame.colorspace in _UNTOLD
    primaries = _choose_tag(frame.color_primaries, tags.primaries)
    light = _LIGHTS.get(_choose_tag(frame.color_trc, tags.curve), "sdr")
    gamut = _GAMUTS.get(primaries)
    if light != "sdr" and primaries == UNTOLD:
        gamut = "bt2020"
    tagged = _MATRICES.get(tags.matrix) if silent else None
    matrix = tagged
    if silent and matrix is None:
        matrix = _guess_matrix(frame, gamut)
    full = yuv and not frame.color_range and tags.range == ColorRange.JPEG
    peak = _read_peak(frame) if light == "pq" else PEAK
    return Colour(silent and tagged is None, matrix, full, gamut, light, peak)


def _choose_tag(of_frame: int, of_stream: int) -> int:
    return of_stream if of_frame in _UNTOLD else of_frame


def _guess_matrix(frame: VideoFrame, gamut: Gamut | None) -> Colorspace | None:
    if gamut == "bt2020":
        return Colorspace.BT2020
    hd = frame.height > HD[0] or frame.width > HD[1]
    return Colorspace.ITU709 if hd else None  # FFmpeg itself takes BT.601


def _read_peak(frame: VideoFrame) -> float:
    """Brightest light of a PQ video: that of its mastering display, else of its content."""
    mastering = frame.side_data.get("MASTERING_DISPLAY_METADATA")
    if isinstance(mastering, SideData):  # AVMasteringDisplayMetadata: 16 ints, min, max, two flags
        above, darkest, _, is_known = struct.unpack_from("=4i", bytes(mastering), 72)
        if is_known and darkest > 0 and WHITE < above / darkest <= BRIGHTEST:
            return float(above / darkest)
    content = frame.side_data.get("CONTENT_LIGHT_LEVEL")
    if isinstance(content, SideData):
        (brightest,) = struct.unpack_from("=I", bytes(content))
        if WHITE < brightest <= BRIGHTEST:
            return float(brightest)
    return PEAK


def to_rgb(frame: VideoFrame, colour: Colour) -> NDArray[np.uint8]:
    """H W 3 of one frame in sRGB, 0 to 255, as it is stored."""
    if not colour.reading():
        pixels: NDArray[Any] = frame.to_ndarray(format="rgb24")
        return pixels
    how: dict[str, Any] = {"src_colorspace": colour.matrix, "src_color_range": colour.range}
    if colour.plain:
        read: NDArray[Any] = frame.reformat(format="rgb24", **how).to_ndarray()
        return read
    how["dst_color_range"] = ColorRange.JPEG
    deep: NDArray[Any] = frame.reformat(format="rgb48le", **how).to_ndarray()
    return _convert(deep, colour)


def _convert(deep: NDArray[np.uint16], colour: Colour) -> NDArray[np.uint8]:
    """16-bit levels to sRGB. Colours that BT.709 does not have are clipped."""
    light = _build_linear(colour.light)[deep]  # 1 = white of SDR, or cd/m2
    if colour.light == "hlg":
        light = _display_light(light, colour.gamut)
    if colour.gamut is not None:
        light = light @ np.array(_TO_709[colour.gamut], np.float32).T
    np.maximum(light, 0, out=light)
    if colour.light == "sdr":
        return _encode(light)
    brightest = light.max(-1)
    # By the largest channel, all alike: hue and saturation stay, and no channel goes beyond white.
    scales = _build_tone_scales(colour.peak)
    place = np.sqrt(np.sqrt(np.minimum(brightest, BRIGHTEST) / np.float32(BRIGHTEST)))
    light *= scales[np.rint(place * (len(scales) - 1)).astype(np.uint16)][..., None]
    return _encode(light)


def _encode(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    table = _build_encoding()
    top = len(table) - 1
    # The root spreads the dark end, where a code is a small step of light.
    place = np.sqrt(np.clip(light, 0, 1)) * top
    coded: NDArray[np.uint8] = table[np.rint(place).astype(np.uint16)]
    return coded


@lru_cache
def _build_encoding() -> NDArray[np.uint8]:
    """8-bit sRGB levels (IEC 61966-2-1) by the square root of linear light."""
    linear = np.linspace(0, 1, 1 << 16) ** 2
    levels = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    rounded: NDArray[np.uint8] = np.rint(levels * 255).astype(np.uint8)
    return rounded


@lru_cache
def _build_linear(light: Light) -> _LookupTable:
    """Linear light by 16-bit level: cd/m2 of PQ, 0 to 1 of HLG's scene and of SDR."""
    level = np.arange(1 << 16) / 65535
    if light == "pq":
        return _decode_pq(level).astype(np.float32)
    if light == "hlg":  # BT.2100, table 5: inverse of the OETF
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(level <= 0.5, level**2 / 3, (np.exp((level - c) / a) + b) / 12)
        return scene.astype(np.float32)
    # Video of BT.709 is shown as if it were sRGB, so a wider gamut is taken by the same curve.
    srgb = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return srgb.astype(np.float32)


def _display_light(scene: NDArray[np.float32], gamut: Gamut | None) -> NDArray[np.float32]:
    """HLG's scene light on a display of 1000 cd/m2: BT.2100, table 5, OOTF with gamma 1.2."""
    luma = scene @ (_LUMA_2020 if gamut == "bt2020" else np.array((0.2126, 0.7152, 0.0722), "f4"))
    return scene * (PEAK * np.maximum(luma, 1e-6) ** np.float32(0.2))[..., None]


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128  # SMPTE ST 2084
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _decode_pq(code: NDArray[Any]) -> NDArray[Any]:
    power = np.asarray(code, np.float64) ** (1 / _M2)
    light: NDArray[Any] = np.maximum(power - _C1, 0) / (_C2 - _C3 * power)
    return BRIGHTEST * light ** (1 / _M1)


def _encode_pq(light: NDArray[Any]) -> NDArray[Any]:
    power = (light / BRIGHTEST) ** _M1
    code: NDArray[Any] = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return code


@lru_cache
def _build_tone_scales(peak: float) -> _LookupTable:
    """What light is multiplied by to become SDR's (1 = white); by its fourth root, 0 to BRIGHTEST.

    The EETF of ITU-R BT.2390 (section 5.4.1) from `peak` to 203 cd/m2, black at 0: unchanged below
    its knee, a Hermite spline above it.
    """
    light = np.linspace(0, 1, 1 << 16) ** 4 * BRIGHTEST
    source, white = (float(code) for code in _encode_pq(np.array([peak, WHITE])))
    level, top = np.minimum(_encode_pq(light) / source, 1), white / source
    knee = max(1.5 * top - 0.5, 0.0)
    part = np.clip((level - knee) / (1 - knee), 0, 1)
    square, cube = part**2, part**3
    spline = (2 * cube - 3 * square + 1) * knee
    spline += (cube - 2 * square + part) * (1 - knee) + (3 * square - 2 * cube) * top
    mapped = _decode_pq(np.where(level < knee, level, spline) * source)
    with np.errstate(invalid="ignore"):
        scales = np.where(level < knee, 1.0, mapped / light) / WHITE
    return scales.astype(np.float32)
