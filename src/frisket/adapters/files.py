"""Safetensors files of adapters: read whole, written atomically, equal contents in equal bytes."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from frisket.adapters.metadata import show_text
from frisket.adapters.spec import AdapterMismatch
from frisket.disk.atomic import replacing

PEFT_FILE = "adapter_model.safetensors"  # what peft's save_pretrained calls it in its folder
MOST = 100_000  # tensors; an adapter of the largest model there is has 10,000
LONGEST = 500  # letters of a tensor's key
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def find_file(path: Path) -> Path:
    """The file itself, or the adapter in a folder of peft's; FileNotFoundError where none is."""
    path = Path(path)
    if path.is_dir():
        if (inside := path / PEFT_FILE).is_file():
            return inside
        raise FileNotFoundError(f"{path} is a folder without {PEFT_FILE}; give the adapter's file")
    if not path.is_file():
        raise FileNotFoundError(f"there is no adapter file {path}")
    return path


def header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes and metadata of a file (or of the one in a folder of peft's), from its header alone.

    FileNotFoundError where there is none, AdapterMismatch where it is damaged.
    """
    path = find_file(path)
    try:
        with safe_open(path, framework="pt") as opened:
            keys = list(opened.keys())
            _check_keys(path, keys)
            shapes = {key: tuple(opened.get_slice(key).get_shape()) for key in keys}
            return shapes, dict(opened.metadata() or {})
    except AdapterMismatch:
        raise
    except OSError as error:
        if error.filename is not None or error.errno is not None:
            raise
        raise _report_damage(path, error) from error
    except Exception as error:
        raise _report_damage(path, error) from error


def tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file; the errors of `header`.

    All are finite and of a floating dtype that torch computes with (float8 comes as float32, which
    is exact); AdapterMismatch names the tensor that is not. Whole numbers pass where they are no
    factors (some trainers write an alpha so).
    """
    path = find_file(path)
    shapes, metadata = header(path)
    values: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as opened:
            for key in shapes:
                values[key] = check_tensor(path, key, opened.get_tensor(key))
    except (AdapterMismatch, MemoryError):
        raise
    except Exception as error:
        raise _report_damage(path, error) from error
    return values, metadata


def _check_keys(path: Path, keys: list[str]) -> None:
    if len(keys) > MOST:
        raise AdapterMismatch(f"{path} has {len(keys):,} tensors; no adapter has over {MOST:,}")
    odd = next((key for key in keys if not key.isprintable() or len(key) > LONGEST), None)
    if odd is not None:
        raise AdapterMismatch(
            f"{path} has a tensor called {show_text(odd, 60)!r}: a name with unprintable letters or"
            f" over {LONGEST} of them is no layer's"
        )


def check_tensor(path: Path, key: str, value: Tensor) -> Tensor:
    """A tensor of an adapter's file, float8 as float32; AdapterMismatch where it is none."""
    if value.is_floating_point():
        value = value if value.dtype in FLOATS else value.float()
        if not bool(torch.isfinite(value).all()):
            count = int((~torch.isfinite(value)).sum())
            raise AdapterMismatch(
                f"{path}: {count} of {value.numel()} values of {key} are not finite numbers (NaN or"
                " infinity): the run that made it diverged, or the file is damaged"
            )
    elif value.is_complex() or value.numel() != 1:
        kind = str(value.dtype).removeprefix("torch.")
        raise AdapterMismatch(f"{path}: {key} is {kind}; an adapter's tensors are floating point")
    return value


def _report_damage(path: Path, error: Exception) -> AdapterMismatch:
    kind = "" if isinstance(error, SafetensorError) else f"{type(error).__name__}: "
    reason = show_text(" ".join(f"{kind}{error}".split()))
    return AdapterMismatch(f"{path} is cut short or no safetensors file: {reason}")


def write(path: Path, values: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file atomically; CannotWrite leaves a file that was there untouched."""
    content = _sort_header(serialise(dict(values), {"format": "pt", **metadata}))
    with replacing(path) as draft, draft.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def _sort_header(content: bytes) -> bytes:
    """The same safetensors with its header in sorted order: the library's own order is random."""
    size = int.from_bytes(content[:8], "little")
    ordered = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":"))
    packed = ordered.encode()
    packed += b" " * (-len(packed) % 8)
    return len(packed).to_bytes(8, "little") + packed + content[8 + size :]
