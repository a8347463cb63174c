"""Models whose weights were all trained, where a LoRA may stand: found, checked, put on a base."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from frisket.adapters.files import header
from frisket.adapters.spec import AdapterMismatch
from frisket.disk.untrusted import BadText, parse_json, read_table, show
from frisket.families.base import Family, Source
from frisket.families.whole_model import lay_over
from frisket.training.memory.plan import CannotFit, MemoryPlan

MODEL = "model"  # the folder, in that of the run
RECORD = "frisket.json"  # in it, what a LoRA file's metadata says


def is_model(path: Path) -> bool:
    """Whether a path is the model of a run, not a LoRA."""
    return (path / RECORD).is_file()


def find_model(output: Path) -> Path | None:
    """The model that a run which trains all weights left in its folder; None before its end."""
    return output / MODEL if is_model(output / MODEL) else None


def read_metadata(path: Path) -> Mapping[str, str]:
    """What a LoRA file or a model says of its making.

    AdapterMismatch for what is none, OSError where it cannot be read.
    """
    if not is_model(path):
        return header(path)[1]
    try:
        table: Mapping[str, Any] = read_table(path / RECORD)
    except BadText as error:
        raise AdapterMismatch(str(error)) from error
    return {str(key): str(value) for key, value in table.items()}


def check_models(family: Family, variant: str, lora: Sequence[tuple[Path, float]]) -> None:
    """Refuse a model of another base, and one that is not to act alone and whole.

    AdapterMismatch, before any weight is read; LoRA files are not looked at.
    """
    for path, strength in lora:
        if not is_model(path):
            continue
        base = _read_base(path)
        for word, expected in (("family", family.name), ("variant", variant)):
            if base.get(word, expected) != expected:
                raise AdapterMismatch(
                    f"{path} is {show(base[word])} by its {word}, and the base is {expected}:"
                    f" choose the model.{word} it was trained from"
                )
        if len(lora) > 1 or strength != 1:
            raise AdapterMismatch(
                f"{path} is a model whose weights were all trained: it acts alone and at strength"
                " 1; to add LoRAs to it make it the base (model.source), or turn it into a LoRA"
                " (frisket convert --extract)"
            )


def _read_base(path: Path) -> Mapping[str, Any]:
    try:
        base = parse_json(read_metadata(path).get("frisket.base", "{}"))
    except BadText as error:
        raise AdapterMismatch(f"{path / RECORD}: `frisket.base` {error}") from error
    return base if isinstance(base, dict) else {}


def put_on_model(
    family: Family, source: Source, plan: MemoryPlan, denoiser: nn.Module, folder: Path
) -> None:
    """Put a model's weights in the place of the base's, which stays at hand (`lora.frozen`).

    CannotFit where the base is not held as plain weights, AdapterMismatch where the two do not fit.
    """
    switches = {
        "quantise": plan.quantise != "none",
        "storage": plan.storage != "same",
        "swap_blocks": plan.swap_blocks > 0,
    }
    if switch := next((name for name, is_on in switches.items() if is_on), ""):
        raise CannotFit(
            f"{folder}: a model is laid over its base as plain weights, so memory.{switch} has to"
            " be left out; or make it the base (model.source)"
        )
    trained = family.load_denoiser(
        replace(source, path=str(folder), revision=None, device="cpu", experts=())
    )
    try:
        lay_over(denoiser, dict(trained.named_parameters()))
    except ValueError as error:
        raise AdapterMismatch(f"{folder} was trained from another base: {error}") from error


def digest_model(folder: Path) -> str:
    """SHA-256 over the names and contents of a model's weights, in order."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        total.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
