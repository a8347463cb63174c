"""Which way up a picture is: one rule, for its size and for its pixels."""

import logging
from typing import IO, Any

from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

from frisket.media.foreign import reason_of

log = logging.getLogger(__name__)

UPRIGHT = 1
METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # from stored to upright, by EXIF's number (CIPA DC-008, 4.6.5)
DESCRIPTIONS = {
    2: "mirrored left to right",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "turned by 90 degrees and mirrored",
    6: "turned by 90 degrees",
    7: "turned by 90 degrees and mirrored",
    8: "turned by 90 degrees",
}


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 (as stored) for what no viewer acts on.

    That is a number out of range, text, bytes, a fraction, several values, or EXIF that cannot be
    read at all. Where EXIF has none, XMP's `tiff:Orientation` counts. Of a format whose decoder
    turns the pixels (TIFF, HEIF, JPEG XL) it is 1 once they are loaded.
    """
    if image.format == "HEIF" or (image.format == "JXL" and not getattr(image, "jpeg", False)):
        return UPRIGHT  # their own turn is applied by the decoder, EXIF's only repeats it
    try:
        orientation = _read_exif(image).get(Base.Orientation, UPRIGHT)
    except Exception as error:
        name = getattr(getattr(image, "fp", None), "name", "a picture")
        log.warning("%s: its EXIF cannot be read (%s); taken as it is", name, reason_of(error))
        return UPRIGHT
    number = isinstance(orientation, int) and not isinstance(orientation, bool)
    return orientation if number and orientation in METHODS else UPRIGHT


def _read_exif(image: Image.Image) -> Image.Exif:
    # Pillow decodes a whole PNG to look for EXIF behind its pixels: 5 ms a mask, 200 ms a photo.
    stream: IO[bytes] | None = getattr(image, "fp", None)
    early = image.format == "PNG" and stream is not None and not _has_late_chunks(stream)
    return Image.Image.getexif(image) if early else image.getexif()


def _has_late_chunks(stream: IO[bytes]) -> bool:
    """Whether a PNG has EXIF or text after its pixels."""
    place, pixels = stream.tell(), False
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        pixels = pixels or head[4:] == b"IDAT"
        if pixels and head[4:] in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
            break
        stream.seek(int.from_bytes(head[:4], "big") + 4, 1)
    stream.seek(place)
    return len(head) == 8


def size_of(image: Image.Image) -> tuple[int, int]:
    """(height, width) as seen; reads the header only, but of a turned TIFF."""
    if image.format == "TIFF" and orientation_of(image) != UPRIGHT:
        image.load()  # Pillow versions differ in whether the header's size is turned
    width, height = image.size
    return (height, width) if orientation_of(image) < 5 else (width, height)


def upright(image: Image.Image) -> Image.Image:
    """The loaded picture as it is seen, of the same format."""
    orientation = orientation_of(image)
    if orientation == UPRIGHT:
        return image
    turned = image.transpose(METHODS[orientation])
    turned.format = image.format
    return turned


# Axes swapped, then rows and columns reversed.
_STEPS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def turn_upright(plane: NDArray[Any], orientation: int) -> NDArray[Any]:
    """H W (and channels) as stored, turned upright by EXIF's number; a view."""
    swapped, rows, columns = _STEPS.get(orientation, (False, False, False))
    plane = plane.swapaxes(0, 1) if swapped else plane
    return plane[:: -1 if rows else 1, :: -1 if columns else 1]
