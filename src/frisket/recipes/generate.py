"""`frisket generate`: pictures or clips by prompt, with a LoRA and, to compare, without."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from frisket.adapters import lora as adapter
from frisket.families.base import FAMILIES, Family, Parts, Source
from frisket.inference.generate import Picture, grid, save
from frisket.inference.generate import generate as sample
from frisket.recipes.config import Config, Preview
from frisket.recipes.load import ConfigError, check
from frisket.recipes.prepare import source_of

log = logging.getLogger(__name__)
LONGEST = 40  # letters of a prompt in a file name


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
    lora: Sequence[tuple[Path, float]] = (),
    without: bool = False,
    seeds: Sequence[int] = (0,),
    prompt_file: Path | None = None,
    negative: str = "",
    steps: int | None = None,
    guidance: float | None = None,
    height: int | None = None,
    width: int | None = None,
    frames: int | None = None,
    batch: int | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Generated:
    """Sample every prompt with every seed; write the pictures, one grid and `generate.json`.

    `lora` are adapter files with their strengths (1 as trained); all of them act together.
    `without` samples the base as well, same seeds, next to the LoRA's in the grid; with no `lora`
    the base alone is sampled. `prompt_file` adds a prompt a line (`#` begins a comment). Sizes in
    pixels, steps and guidance default to the variant's own. Pictures are on disk as soon as they
    are done.

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
    for path, _ in lora:
        adapter.spec_of(path)  # a wrong file is found before the weights are loaded
    parts = load(family, source)
    pairs = [(prompt, seed) for prompt in prompts for seed in seeds]
    versions = (["base"] if without or not lora else []) + (["lora"] if lora else [])
    out.mkdir(parents=True, exist_ok=True)
    variant = family.variants[source.variant]
    settings: dict[str, Any] = {
        "negative": negative,
        "steps": variant.steps if steps is None else steps,
        "guidance": variant.guidance if guidance is None else guidance,
        "height": height or variant.height,
        "width": width or variant.width,
        "frames": frames or variant.frames,
    }
    done: dict[tuple[int, str], tuple[Picture, Path]] = {}
    for version in versions:
        if version == "lora":
            put_on(family, parts, lora)
        pictures = sample(
            family,
            parts,
            [prompt for prompt, _ in pairs],
            seeds=[seed for _, seed in pairs],
            batch=batch,
            **settings,
        )
        for index, picture in enumerate(pictures):
            name = f"{index:03d}-{slug(picture.prompt)}-{picture.seed}"
            name += f"-{version}" if len(versions) > 1 else ""
            done[index, version] = picture, save(picture.frames, out / name, variant.fps)
            progress("sampling", len(done), len(pairs) * len(versions))
    ordered = [
        Made(*done[index, version], version) for index in range(len(pairs)) for version in versions
    ]
    labels = [
        f"{made.picture.prompt}\nseed {made.picture.seed}"
        + (f" {made.version}" if len(versions) > 1 else "")
        for made in ordered
    ]
    columns = len(seeds) * len(versions)
    sheet = grid([made.picture for made in ordered], columns, labels=labels)
    record = describe(family, source, lora, settings, ordered)
    return Generated(
        tuple(made.path for made in ordered),
        save(sheet, out / "grid", variant.fps),
        write(record, out / "generate.json"),
    )


@dataclass(frozen=True, slots=True)
class Made:
    """A picture, its file, and what it was sampled with: "base" or "lora"."""

    picture: Picture
    path: Path
    version: str


def describe(
    family: Family,
    source: Source,
    lora: Sequence[tuple[Path, float]],
    settings: Mapping[str, Any],
    made: Sequence[Made],
) -> dict[str, Any]:
    """What `generate.json` says: enough to make the same pictures again."""
    return {
        "model": {
            "family": family.name,
            "variant": source.variant,
            "source": source.path,
            "revision": source.revision,
            "dtype": str(source.dtype).removeprefix("torch."),
        },
        "lora": [
            {"path": str(path), "strength": strength, "sha256": digest(path)}
            for path, strength in lora
        ],
        "settings": dict(settings),
        "pictures": [
            {
                "file": each.path.name,
                "prompt": each.picture.prompt,
                "seed": each.picture.seed,
                "lora": each.version == "lora",
            }
            for each in made
        ],
    }


def write_grid(family: Family, parts: Parts, preview: Preview, path: Path) -> Path:
    """A grid of a `[preview]`, a row a prompt and a column a seed, as `path`.png or .mp4."""
    pairs = [(prompt, seed) for prompt in preview.prompts for seed in preview.seeds]
    pictures = sample(
        family,
        parts,
        [prompt for prompt, _ in pairs],
        seeds=[seed for _, seed in pairs],
        negative=preview.negative,
        height=preview.height,
        width=preview.width,
        frames=preview.frames,
        steps=preview.steps,
        guidance=preview.guidance,
    )
    sheet = grid(list(pictures), len(preview.seeds))
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(sheet, path, family.variants[parts.variant].fps)


def load(family: Family, source: Source) -> Parts:
    """All parts of a variant, on the source's device."""
    return Parts(
        source.variant,
        family.load_vae(source),
        family.load_text(source),
        family.load_denoiser(source),
    )


def put_on(family: Family, parts: Parts, lora: Sequence[tuple[Path, float]]) -> None:
    """Put LoRA files on the denoiser; all but the last are added into its weights for good."""
    assert parts.denoiser is not None
    for number, (path, strength) in enumerate(lora, 1):
        adapter.load(parts.denoiser, path, prefix=family.lora_prefix)
        adapter.set_strength(parts.denoiser, strength)
        count = len(adapter.trainable(parts.denoiser))
        log.info("%s: %d tensors on the denoiser, strength %g", path, count, strength)
        if number < len(lora):
            fold(parts.denoiser, strength)


def fold(denoiser: nn.Module, strength: float) -> None:
    """Add the adapter to the weights it sits on and take it off, so that another can follow."""
    if strength:
        for module in denoiser.modules():
            if isinstance(module, BaseTunerLayer):
                module.merge(safe_merge=True)
    adapter.detach(denoiser)


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
