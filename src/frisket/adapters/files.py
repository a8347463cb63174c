"""Safetensors files of adapters: read whole, written atomically, equal contents in equal bytes."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from frisket.adapters.spec import AdapterMismatch


def header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes and metadata of a file, from its header alone.

    FileNotFoundError where there is none, AdapterMismatch where it is damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no adapter file {path}")
    try:
        with safe_open(path, framework="pt") as opened:
            shapes = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
            return shapes, opened.metadata() or {}
    except SafetensorError as error:
        raise AdapterMismatch(f"{path} is cut short or no safetensors file: {error}") from error


def tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file; the errors of `header`."""
    shapes, metadata = header(path)
    with safe_open(path, framework="pt") as opened:
        return {key: opened.get_tensor(key) for key in shapes}, metadata


def write(path: Path, values: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file atomically; OSError leaves a file that was there untouched."""
    content = _ordered(serialise(dict(values), {"format": "pt", **metadata}))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _ordered(content: bytes) -> bytes:
    """The same safetensors with its header in sorted order: the library's own order is random."""
    size = int.from_bytes(content[:8], "little")
    ordered = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":"))
    packed = ordered.encode()
    packed += b" " * (-len(packed) % 8)
    return len(packed).to_bytes(8, "little") + packed + content[8 + size :]
