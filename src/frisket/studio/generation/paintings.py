"""Where each LoRA may act, as it was painted: one picture of numbers, and a mask for each LoRA."""

import hashlib
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from frisket.disk.atomic import replacing
from frisket.studio.workspace import UnknownId

FOLDER = "lora-masks"  # below the studio's own folder
SMALLEST, LARGEST = 8, 8192  # pixels of a side
MOST = 8  # LoRAs of a painting
_ID = re.compile("[0-9a-f]{18}")


@dataclass(frozen=True, slots=True)
class LoraPainting:
    """A painting on disk: the share of the picture that each LoRA's number covers, by number."""

    id: str
    width: int
    height: int
    shares: dict[int, float]


def save_painting(home: Path, width: int, height: int, deflated: bytes) -> LoraPainting:
    """Keep a painting: `deflated` are its numbers (0 none, 1 the first LoRA), row by row.

    Writes a grey PNG a LoRA, white where it acts, as `frisket generate --lora-mask` takes it, and
    the numbers themselves. Equal paintings are one. Raises ValueError for what is no painting.
    """
    if not (SMALLEST <= width <= LARGEST and SMALLEST <= height <= LARGEST):
        raise ValueError(
            f"a painting of {width} x {height} pixels: sides are {SMALLEST} to {LARGEST} pixels"
        )
    numbers = _unpack(deflated, width * height)
    counts = {number: numbers.count(number) for number in set(numbers) if number}
    if any(number > MOST for number in counts):
        raise ValueError(f"a painting is of {MOST} LoRAs at most, not {max(counts)}")
    name = hashlib.blake2b(
        f"{width} {height} ".encode() + numbers, digest_size=9, person=b"frisket.paint"
    ).hexdigest()
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for number in counts:
        table = bytes(255 if value == number else 0 for value in range(256))
        _write_grey(name_mask(home, name, number), numbers.translate(table), width, height)
    _write_grey(folder / f"{name}.png", numbers, width, height)
    shares = {number: count / len(numbers) for number, count in sorted(counts.items())}
    return LoraPainting(name, width, height, shares)


def _unpack(deflated: bytes, size: int) -> bytes:
    """Just `size` bytes; ValueError for more or fewer, without unpacking what is over."""
    inflater = zlib.decompressobj()
    try:
        numbers = inflater.decompress(deflated, size + 1)
    except zlib.error as error:
        raise ValueError(f"a painting that cannot be unpacked ({error}); send it again") from error
    if len(numbers) != size or not inflater.eof:
        raise ValueError(f"a painting of other than {size} pixels; send it again")
    return numbers


def _write_grey(path: Path, values: bytes, width: int, height: int) -> None:
    from PIL import Image  # noqa: PLC0415 - the server's start need not wait for it

    if path.is_file():  # names hold the content
        return
    content = io.BytesIO()
    Image.frombytes("L", (width, height), values).save(content, "PNG")
    with replacing(path) as draft:
        draft.write_bytes(content.getvalue())


def name_mask(home: Path, painting_id: str, number: int) -> Path:
    """The mask of one LoRA of a painting; UnknownId for an id that is none."""
    if not _ID.fullmatch(painting_id):
        raise UnknownId(f"no painting has the id {painting_id[:40]!r}")
    return home / FOLDER / f"{painting_id}-{number}.png"


def find_mask(home: Path, painting_id: str, number: int) -> Path | None:
    """The mask of one LoRA; None where nothing was painted for it. UnknownId for no painting."""
    path = name_mask(home, painting_id, number)
    if not (home / FOLDER / f"{painting_id}.png").is_file():
        raise UnknownId(f"there is no painting {painting_id} any more; paint it again")
    return path if path.is_file() else None


def read_painting(home: Path, painting_id: str) -> tuple[int, int, bytes]:
    """Width, height and deflated numbers of a painting; UnknownId."""
    from PIL import Image  # noqa: PLC0415 - the server's start need not wait for it

    path = name_mask(home, painting_id, 0).with_name(f"{painting_id}.png")
    if not path.is_file():
        raise UnknownId(f"there is no painting {painting_id} any more; paint it again")
    with Image.open(path) as image:
        numbers = image.tobytes()
        return image.width, image.height, zlib.compress(numbers, 1)
