"""Readers of formats that Pillow does not know by itself; they come with the extra `photos`."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import IO

EXTRA = "pip install 'frisket[photos]'"
# Suffixes that need a package: its module, its name, and Pillow's name of the format.
HEIF = ("pillow_heif", "pillow-heif", "HEIF")
JXL = ("pillow_jxl", "pillow-jxl-plugin", "JXL")
NEEDS = {".heic": HEIF, ".heif": HEIF, ".hif": HEIF, ".jxl": JXL}
RAW = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos"),
    *(".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srw"),
    ".x3f",
)  # camera raw: no two programs develop it alike, so none of it is read
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")


@cache
def has(module: str) -> bool:
    """Whether a package is installed; it is not imported for that."""
    return find_spec(module) is not None


def lacking(suffix: str) -> str | None:
    """The package that files of this suffix need and that is not installed."""
    need = NEEDS.get(suffix.lower())
    return None if need is None or has(need[0]) else need[1]


def find_reader(head: bytes) -> tuple[str, str, str] | None:
    """What a file that begins so needs, whatever it is called: module, package, format."""
    if head.startswith(_JXL):
        return JXL
    return HEIF if head[4:8] == b"ftyp" and head[8:12] in _BRANDS else None


def prepare_for(stream: IO[bytes]) -> list[str]:
    """Pillow's names of further formats for a file; LookupError with a fix where none is there."""
    head = stream.read(16)
    stream.seek(0)
    need = find_reader(head)
    if need is None:
        return []
    module, package, form = need
    if not has(module):
        if head[8:12] in (b"mif1", b"msf1"):
            return []  # may be an AVIF, which Pillow reads itself
        raise LookupError(f"is {form}, which is read by {package}, and that is not installed")
    _register(module)
    return [form]


@cache
def _register(module: str) -> None:
    plugin = import_module(module)
    if module == HEIF[0]:
        plugin.register_heif_opener(thumbnails=False)
