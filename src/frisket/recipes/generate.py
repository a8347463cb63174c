"""`frisket generate`: pictures or clips by prompt, with the trained LoRA and, to compare, without."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from frisket.adapters import lora
from frisket.families.base import FAMILIES, Family, Parts, Source
from frisket.inference.generate import Picture, grid, save
from frisket.inference.generate import generate as sample
from frisket.recipes.config import Config
from frisket.recipes.load import ConfigError, check
from frisket.recipes.prepare import source_of

log = logging.getLogger(__name__)
LONGEST = 40  # letters of a prompt in a file name


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample; what is None is the variant's own. Sizes in pixels."""

    negative: str = ""
    steps: int | None = None
    guidance: float | None = None
    height: int | None = None
    width: int | None = None
    frames: int | None = None
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """The files that were written, in the order of prompts, then seeds, base before LoRA."""

    pictures: tuple[Path, ...]
    grid: Path
    record: Path


def generate(
    config: Config,
    prompts: Sequence[str],
    out: Path,
    *,
    adapters: Sequence[tuple[Path, float]] = (),
    seeds: Sequence[int] = (0,),
    sampling: Sampling = Sampling(),
    prompt_file: Path | None = None,
    without: bool = False,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Generated:
    """Sample every prompt with every seed; write the pictures, one grid and `generate.json`.

    `adapters` are LoRA files with their strengths (1 as trained); all of them act together.
    `without` samples the base as well, same seeds, next to the LoRA's in the grid. With no
    adapters the base alone is sampled. `prompt_file` adds a prompt a line (`#` begins a comment).
    Pictures are on disk as soon as they are done.

    Raises ConfigError for no prompts or no seeds, AdapterMismatch for a LoRA of another base,
    WeightsNotFound, and ValueError for a size the model cannot make.
    """
    check(config)
    prompts = [*prompts, *(read_prompts(prompt_file) if prompt_file else [])]
    if not prompts or not seeds:
        raise ConfigError(
            'generate: give at least one prompt (--prompt "...", or --prompt-file) and one seed'
        )
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    for path, _ in adapters:
        lora.spec_of(path)  # a wrong file is found before the weights are loaded
    parts = load(family, source)
    pairs = [(prompt, seed) for prompt in prompts for seed in seeds]
    versions = (["base"] if without or not adapters else []) + (["lora"] if adapters else [])
    out.mkdir(parents=True, exist_ok=True)
    fps = family.variants[source.variant].fps
    done: dict[tuple[int, str], tuple[Picture, Path]] = {}
    for version in versions:
        if version == "lora":
            put_on(family, parts, adapters)
        pictures = sample(
            family,
            parts,
            [prompt for prompt, _ in pairs],
            seeds=[seed for _, seed in pairs],
            **{name: getattr(sampling, name) for name in Sampling.__slots__},
        )
        for index, picture in enumerate(pictures):
            name = f"{index:03d}-{slug(picture.prompt)}-{picture.seed}"
            name += f"-{version}" if len(versions) > 1 else ""
            done[index, version] = picture, save(picture.frames, out / name, fps)
            progress("sampling", len(done), len(pairs) * len(versions))
    ordered = [done[index, version] for index in range(len(pairs)) for version in versions]
    labels = [
        f"{picture.prompt}\nseed {picture.seed}{' ' + version if len(versions) > 1 else ''}"
        for (picture, _), version in zip(ordered, versions * len(pairs), strict=True)
    ]
    columns = len(seeds) * len(versions)
    sheet = grid([picture for picture, _ in ordered], columns, labels=labels)
    record = {
        "model": {
            "family": config.model.family,
            "variant": source.variant,
            "source": source.path,
            "revision": source.revision,
        },
        "lora": [
            {"path": str(path), "strength": strength, "sha256": digest(path)}
            for path, strength in adapters
        ],
        "settings": settings_of(family, source, sampling),
        "pictures": [
            {
                "file": path.name,
                "prompt": picture.prompt,
                "seed": picture.seed,
                "lora": version == "lora",
            }
            for (picture, path), version in zip(ordered, versions * len(pairs), strict=True)
        ],
    }
    return Generated(
        tuple(path for _, path in ordered),
        save(sheet, out / "grid", fps),
        write(record, out / "generate.json"),
    )


def load(family: Family, source: Source) -> Parts:
    """All parts of a variant, on the source's device."""
    return Parts(
        source.variant,
        family.load_vae(source),
        family.load_text(source),
        family.load_denoiser(source),
    )


def put_on(family: Family, parts: Parts, adapters: Sequence[tuple[Path, float]]) -> None:
    """Put LoRA files on the denoiser; all but the last are added into its weights for good."""
    assert parts.denoiser is not None
    for number, (path, strength) in enumerate(adapters, 1):
        lora.load(parts.denoiser, path, prefix=family.lora_prefix)
        lora.set_strength(parts.denoiser, strength)
        count = len(lora.trainable(parts.denoiser))
        log.info("%s: %d tensors on the denoiser, strength %g", path, count, strength)
        if number < len(adapters):
            fold(parts.denoiser, strength)


def fold(denoiser: nn.Module, strength: float) -> None:
    """Add the adapter to the weights it sits on and take it off, so that another can follow."""
    if strength:
        for module in denoiser.modules():
            if isinstance(module, BaseTunerLayer):
                module.merge(safe_merge=True)
    lora.detach(denoiser)


def read_prompts(path: Path) -> list[str]:
    """Prompts of a text file, one a line; blank lines and lines that begin with `#` are left out.

    Raises ConfigError naming the file when it is not there, not UTF-8, or holds no prompt.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    lines = [line.strip() for line in text.splitlines()]
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise ConfigError(f"{path} holds no prompt; write one a line")
    return prompts


def slug(prompt: str) -> str:
    """A prompt as part of a file name: letters and digits of any script, joined by `-`."""
    return re.sub(r"\W+", "-", prompt.lower())[:LONGEST].strip("-_") or "empty"


def settings_of(family: Family, source: Source, sampling: Sampling) -> dict[str, Any]:
    """The sampling with every default filled in."""
    variant = family.variants[source.variant]
    given = {name: getattr(sampling, name) for name in Sampling.__slots__ if name != "batch"}
    return {
        name: getattr(variant, name) if value is None else value for name, value in given.items()
    }


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(record: dict[str, Any], path: Path) -> Path:
    """Write JSON atomically; returns the path."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    text = json.dumps(record, indent=1, ensure_ascii=False)
    partial.write_text(text + "\n", encoding="utf-8")
    return partial.replace(path)
