"""Torch files (.bin) of strangers: tensors alone are read, no code; written atomically."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frisket.adapters import files
from frisket.adapters.metadata import show_text
from frisket.adapters.spec import AdapterMismatch
from frisket.disk.atomic import replacing


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a torch file, read with `weights_only`; AdapterMismatch names the file.

    FileNotFoundError where there is none.
    """
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise
    except pickle.UnpicklingError as error:
        raise AdapterMismatch(
            f"{path} holds more than tensors, or is no torch file; nothing in it was run. Ask for"
            " it as safetensors"
        ) from error
    except (
        *(RuntimeError, EOFError, ValueError, KeyError, AttributeError),
        *(IndexError, TypeError),
    ) as error:
        reason = show_text(" ".join(str(error).split()))
        raise AdapterMismatch(f"{path} is cut short or no torch file: {reason}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise AdapterMismatch(f"{path} holds {type(content).__name__}, not tensors by name")
    return dict(content)


def check_tensors(path: Path, part: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Tensors by name, all finite and floating; AdapterMismatch names the one that is not."""
    for key, value in part.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise AdapterMismatch(
                f"{path}: {show_text(str(key), 60)!r} is {type(value).__name__}, not a tensor"
            )
    return {key: files.check_tensor(path, key, value) for key, value in part.items()}


def make_plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies to be written: on the CPU, apart from any graph, each in a memory of its own."""
    return {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}


def write_pickle(path: Path, content: Mapping[str, Any]) -> None:
    """Write a torch file atomically; CannotWrite leaves a file that was there untouched.

    Equal tensors make equal files: of a path torch would write the draft's name into it.
    """
    with replacing(path) as draft, draft.open("wb") as stream:
        torch.save(dict(content), stream)
