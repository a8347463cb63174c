"""One image file to arrays and back: colours, grey levels, alpha, label indices; EXIF honoured."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from frisket.media.foreign import FRAMES, PIXELS, check_frames, check_pixels, decoding
from frisket.media.paths import BadMedia, replacing
from frisket.media.stills import readers
from frisket.media.stills.colour import colours_of, in_srgb, note_code_points, tell_converted
from frisket.media.stills.orientation import orientation_of, size_of, upright
from frisket.media.stills.profiles import Conversion

__all__ = [
    "PixelReading",
    "Way",
    "colour_key",
    "frames_of",
    "open_image",
    "read",
    "read_orientation",
    "size_of",
    "write",
]

PixelReading = Literal["rgb", "grey", "alpha", "index"]
# "rgb" is what is seen, in sRGB; "stored" the same numbers as in the file, for masks by colour.
Way = PixelReading | Literal["stored"]
PixelArray = NDArray[Any]

LOSSY = {"JPEG", "MPO", "WEBP", "AVIF"}  # WebP may be lossless, but its header does not say so soon
ANIMATED = {"GIF", "WEBP", "PNG", "AVIF"}  # a TIFF or MPO of many pages is still one picture
TINT = 16  # levels between channels that lossy chroma may put into a grey picture
RULE = 1  # of colour conversion; goes into cache keys
SNAP = 4  # levels next to black and white that lossy coding may leave
BAND = 1 << 22  # pixels that are converted at a time, so that a large picture is held once
# Others that Pillow knows are no clips under another name: to read EPS it starts Ghostscript.
KINDS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "JPEG2000")

TEXT = 2**26  # bytes of text, or of a colour profile, in a PNG
# Pillow's own limit is 1 MiB, which the workflow that ComfyUI writes into its pictures goes beyond.
PngImagePlugin.MAX_TEXT_CHUNK = TEXT
PngImagePlugin.MAX_TEXT_MEMORY = 4 * TEXT
Image.MAX_IMAGE_PIXELS = PIXELS  # its own is half of what phones have; ours is told with its number

_WRITERS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
_WRITERS |= {".tif": "TIFF", ".tiff": "TIFF"}


@cache
def _list_kinds() -> list[str]:
    Image.init()
    return [kind for kind in KINDS if kind in Image.OPEN]  # AVIF is not in every Pillow


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """The file as a Pillow image; whatever is raised while it is open or read becomes BadMedia.

    Pictures of more than `foreign.PIXELS` pixels are refused by their header.
    """
    broken = (
        "the image is broken or cut short ({reason}); copy it again from its source, re-export it,"
        " or remove it"
    )
    with decoding(path, broken):
        if not path.is_file():
            raise BadMedia(f"{path}: there is no such file")
        if not path.stat().st_size:
            raise BadMedia(f"{path}: the file is empty (0 bytes); copy it again or remove it")
        # By handle: by name Pillow (13.0) memory-maps plain TIFFs and garbles the rotated ones.
        with path.open("rb") as stream, _identify(path, stream) as image:
            check_pixels(path, *image.size)
            note_code_points(image, stream)
            yield image


def _identify(path: Path, stream: IO[bytes]) -> Image.Image:
    try:
        return Image.open(stream, formats=[*_list_kinds(), *readers.prepare_for(stream)])
    except LookupError as error:
        raise BadMedia(f"{path}: {error}; {readers.EXTRA}, or export it as JPEG or PNG") from error
    except ValueError as error:
        if "MAX_TEXT" not in str(error):
            raise
        raise BadMedia(
            f"{path}: its text or colour profile is larger than {TEXT >> 20} MiB, the most that is"
            " read; the picture may be whole: save it without metadata"
        ) from error
    except UnidentifiedImageError as error:
        raise BadMedia(
            f"{path}: not an image Pillow knows; re-export it as PNG or JPEG, or remove it"
        ) from error
    except Image.DecompressionBombError as error:
        raise BadMedia(
            f"{path}: has more than {PIXELS // 10**6} million pixels, the most that are read"
            f" ({error}); scale it down"
        ) from error


def frames_of(image: Image.Image, path: Path) -> int:
    """1, or the frames of an animated GIF, WebP, PNG or AVIF; BadMedia for too many."""
    if image.format not in ANIMATED:
        return 1
    stream: IO[bytes] | None = getattr(image, "fp", None)
    if image.format == "GIF" and stream is not None:
        check_frames(path, _count_gif(stream), *image.size)  # Pillow seeks through all of them
    count = int(getattr(image, "n_frames", 1))
    if count > 1:
        check_frames(path, count, *image.size)
    return count


def _count_gif(stream: IO[bytes]) -> int:
    """Image blocks of a GIF as far as its blocks are whole, counted no further than needed."""
    place, count = stream.tell(), 0
    stream.seek(10)
    flags = stream.read(3)
    stream.seek(_count_table_bytes(flags), 1)
    while count <= FRAMES and (kind := stream.read(1)) not in (b"", b";"):
        if kind == b",":
            count += 1
            stream.seek(_count_table_bytes(stream.read(9)[-1:]) + 1, 1)
        elif kind == b"!":
            stream.read(1)
        else:
            continue  # Pillow passes over what is between blocks
        while (size := stream.read(1)) not in (b"", b"\0"):
            stream.seek(size[0], 1)
    stream.seek(place)
    return count


def _count_table_bytes(flags: bytes) -> int:
    """Bytes of the colour table that a GIF's flags announce."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def read(image: Image.Image, path: Path, reading: Way) -> PixelArray:
    """The current frame upright: H W 3 uint8, H W float32 in [0, 1], or H W int32 labels."""
    conversion = colours_of(image, path) if reading == "rgb" else None
    depth = _read_depth(image) if reading == "index" else 8
    image.load()
    image = upright(image)
    match reading:
        case "rgb" | "stored":
            if conversion is not None:
                tell_converted(conversion, path)
            return _read_rgb(image, path, conversion)
        case "grey":
            return _read_grey(image, path)
        case "alpha":
            return _read_alpha(image, path)
        case "index":
            labels = _read_index(image, path)
            return labels if depth == 8 else labels // (255 // (2**depth - 1))


def read_orientation(path: Path) -> tuple[int, tuple[int, int]]:
    """EXIF's orientation of a picture, and its (height, width) as seen."""
    with open_image(path) as image:
        orientation = orientation_of(image)
        return orientation, size_of(image)


def colour_key(path: Path) -> str:
    """What is done to the colours of a picture, for cache keys; "" where nothing is."""
    with open_image(path) as image:
        conversion = colours_of(image, path)
    if conversion is None:
        return ""
    return f"srgb{RULE}:{hashlib.blake2b(conversion.profile, digest_size=8).hexdigest()}"


def _read_depth(image: Image.Image) -> int:
    """Bits of a grey pixel as stored, of those (2 and 4) that Pillow stretches to 8."""
    tiles: list[Any] = getattr(image, "tile", [])
    if image.mode != "L" or image.format not in ("PNG", "TIFF") or not tiles:
        return 8
    rawmode = tiles[0][3]
    raw = rawmode if isinstance(rawmode, str) else str(next(iter(rawmode or ("",))))
    return {"L;2": 2, "L;4": 4}.get(raw.removesuffix("R").removesuffix("I"), 8)


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _split_rows(width: int, height: int) -> Iterator[slice]:
    """All rows, about BAND pixels at a time."""
    step = max(BAND // width, 1)
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def _split_bands(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Rows of a picture and what is in them, a small one whole."""
    width, height = image.size
    for rows in _split_rows(width, height):
        is_whole = rows == slice(0, height)
        yield rows, image if is_whole else image.crop((0, rows.start, width, rows.stop))


def _scale_levels(image: Image.Image, path: Path) -> NDArray[np.float32]:
    """More than 8 bits a pixel, scaled (Pillow's own conversion clips) to [0, 1]."""
    values = np.asarray(image)
    top = 1.0 if image.mode == "F" else 65535.0
    low, high = float(values.min()), float(values.max())
    if not np.isfinite((low, high)).all():  # a NaN anywhere makes either of them one
        count = int(values.size - np.isfinite(values).sum())
        raise BadMedia(
            f"{path}: {count} of its {values.size} pixels are no numbers (NaN or infinity); save it"
            " anew with 8 or 16 bits a channel"
        )
    if low < 0 or high > top:
        raise BadMedia(
            f"{path}: pixel values from {low:g} to {high:g}, where 0 to {top:g} is readable;"
            " save it with 8 or 16 bits a channel"
        )
    scaled = np.empty(values.shape, np.float32)
    for rows in _split_rows(*image.size):
        scaled[rows] = values[rows].astype(np.float64) / top
    return scaled


def _read_rgb(
    image: Image.Image, path: Path, conversion: Conversion | None = None
) -> NDArray[np.uint8]:
    if _is_deep(image):
        image = Image.fromarray(np.rint(_scale_levels(image, path) * 255).astype(np.uint8))
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for rows, band in _split_bands(image):
        rgb[rows] = in_srgb(band, conversion)
    return rgb


def _is_transparent(image: Image.Image) -> bool:
    return image.has_transparency_data or "transparency" in image.info


def _read_alpha(image: Image.Image, path: Path) -> NDArray[np.float32]:
    if not _is_transparent(image):
        raise BadMedia(
            f"{path}: has no alpha channel (mode {image.mode}); save it as PNG with transparency or"
            " take the mask from a folder"
        )
    if _is_deep(image):
        opaque: NDArray[np.bool_] = np.asarray(image) != image.info["transparency"]
        return opaque.astype(np.float32)
    alpha = np.empty((image.height, image.width), np.float32)
    for rows, band in _split_bands(image):
        alpha[rows] = np.asarray(band.convert("RGBA").getchannel("A"))
    alpha /= np.float32(255)
    return alpha


def measure_tint(rgb: NDArray[np.uint8]) -> int:
    """Largest difference between two channels of one pixel, in levels."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    highest = np.maximum(np.maximum(red, green), blue)
    return int((highest - np.minimum(np.minimum(red, green), blue)).max())


def refuse_colour(path: Path, levels: int) -> BadMedia:
    """The error for a coloured mask where a grey one is read."""
    return BadMedia(
        f"{path}: its colour channels differ by up to {levels} levels, so it is no grey mask, and"
        " the R channel is not assumed; save it as greyscale, or give masks a `legend` of region ="
        " colour"
    )


def snap_levels(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """8-bit grey of a lossy file in [0, 1], the outermost levels taken as black and white.

    Lossy coding turns flat black into 0 to 4 and flat white into 251 to 255. Left alone, the
    whole background would teach at a percent of full weight instead of exactly not at all.
    """
    table = np.arange(256, dtype=np.float32) / np.float32(255)
    table[: SNAP + 1], table[-SNAP - 1 :] = 0, 1
    lifted: NDArray[np.float32] = table[levels]
    return lifted


def _read_grey(image: Image.Image, path: Path) -> NDArray[np.float32]:
    if _is_transparent(image) and (clearest := float(_read_alpha(image, path).min())) < 1:
        raise BadMedia(
            f"{path}: a grey mask with transparency (alpha down to {clearest * 255:.0f}), so either"
            ' could be the mask; flatten it on black, or use masks = "alpha" on the clip itself'
        )
    if _is_deep(image):
        return _scale_levels(image, path)
    lossy = image.format in LOSSY
    levels = _read_grey_levels(image, path, TINT if lossy else 0)
    if lossy:
        return snap_levels(levels)
    scaled = levels.astype(np.float32)
    scaled /= np.float32(255)  # in place: half the time of a big mask is memory
    return scaled


def _read_grey_levels(image: Image.Image, path: Path, tint: int) -> NDArray[np.uint8]:
    """8-bit grey, BadMedia for colour channels that differ by more than `tint` levels."""
    if image.mode == "L":
        return np.asarray(image)
    levels = np.empty((image.height, image.width), np.uint8)
    tint_measured = 0
    for rows, band in _split_bands(image):
        grey = band
        if band.mode != "1":
            rgb = in_srgb(band, None)
            tint_measured = max(tint_measured, measure_tint(rgb))
            grey = Image.fromarray(rgb)
        levels[rows] = np.asarray(grey.convert("L"))
    if tint_measured > tint:
        raise refuse_colour(path, tint_measured)
    return levels


def _read_index(image: Image.Image, path: Path) -> NDArray[np.int32]:
    if image.format in LOSSY:
        raise BadMedia(
            f"{path}: a label map as {image.format}, whose compression changes label values; save"
            " it as PNG"
        )
    if image.mode == "PA":
        return np.asarray(image.getchannel("P"), np.int32)
    if image.mode in ("P", "L", "1", "I") or image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.int32)
    rgb = _read_rgb(image, path)
    if image.mode == "F" or (tint_measured := measure_tint(rgb)):
        content = (
            "fractions"
            if image.mode == "F"
            else f"colours (channels differ by up to {tint_measured})"
        )
        raise BadMedia(
            f"{path}: holds {content}, not label numbers; give the `legend` RGB colours, or save"
            " the labels as a palette or greyscale PNG"
        )
    return rgb[..., 0].astype(np.int32)


def write(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Save H W 3 by the suffix's format, atomically; ValueError on a suffix without a writer."""
    form = _WRITERS.get(path.suffix.lower())
    if form is None:
        raise ValueError(f"{path}: no image writer for {path.suffix!r}; use {', '.join(_WRITERS)}")
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"lossless": True},
    }
    with replacing(path) as draft:
        Image.fromarray(rgb).save(draft, format=form, **options.get(form, {}))
