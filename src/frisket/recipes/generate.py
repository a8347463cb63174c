"""`frisket generate`: pictures or clips by prompt, with a LoRA and, to compare, without."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from frisket.adapters.lora import frozen
from frisket.config.load import ConfigError
from frisket.config.load import check as check_config
from frisket.config.tree import Config
from frisket.disk.atomic import replacing
from frisket.families.base import FAMILIES, Family, Source
from frisket.inference.generate import Picture, sample
from frisket.inference.grids import grid, save
from frisket.inference.sample_specs import check
from frisket.runs.prepare import source_of
from frisket.runs.prompt_file import Line, read_prompts
from frisket.runs.sampler import (
    check_loras,
    embed_shots,
    files_of,
    load_sampler,
    plan_of,
    tell_reading,
)
from frisket.runs.samples import shots_of, slug
from frisket.training.memory.out_of_memory import room_for


@dataclass(frozen=True, slots=True)
class Generated:
    """The files that were written, in the order of prompts, then seeds, base before LoRA."""

    pictures: tuple[Path, ...]
    grid: Path
    record: Path


@room_for("generate")
def generate(
    config: Config,
    prompts: Sequence[str],
    out: Path | Callable[[], Path],
    *,
    lora: Sequence[tuple[Path, float]] = (),
    without: bool = False,
    seeds: Sequence[int] = (0,),
    prompt_file: Path | None = None,
    negative: str = "",
    images: Sequence[Path] = (),
    steps: int | None = None,
    guidance: float | None = None,
    height: int | None = None,
    width: int | None = None,
    frames: int | None = None,
    batch: int | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Generated:
    """Sample every prompt with every seed; write the pictures, one grid and `generate.json`.

    `out` is a folder, or what names one when all that could be refused was not.

    `lora` are adapter files with their strengths (1 as trained); all of them act together.
    `without` samples the base as well, same seeds, next to the LoRA's in the grid; with no `lora`
    the base alone is sampled. `prompt_file` adds a prompt a line (`#` begins a comment), whose own
    options win over those given here; see `recipes.prompts`. `images` are what the model starts
    from: its first frame, or the pictures it edits. Sizes in pixels, steps and guidance default to
    the variant's own. Pictures are on disk as soon as they are done. The text encoder is gone
    before the denoiser is loaded.

    Raises ConfigError for no prompts or no seeds and for a wrong prompt file, AdapterMismatch for a
    LoRA of another base, WeightsNotFound, BadMedia, and ValueError for what the model cannot make.
    """
    check_config(config)
    lines = [
        *(Line(prompt) for prompt in prompts),
        *(read_prompts(prompt_file) if prompt_file else []),
    ]
    if not lines or not seeds:
        raise ConfigError(
            'generate: give at least one prompt (--prompt "...", or --prompt-file) and one seed'
        )
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    settings = {
        "negative": negative,
        "images": tuple(images),
        "steps": steps,
        "guidance": guidance,
        "height": height,
        "width": width,
        "frames": frames,
    }
    variant = family.variants[source.variant]
    shots = shots_of(variant, lines, seeds, settings)
    check(family, source.variant, shots)
    check_loras(family, source.variant, lora)
    tell_reading(variant, source, lora)
    told = embed_shots(family, source, shots)
    parts = load_sampler(family, source, plan_of(config), lora)
    assert parts.denoiser is not None
    versions = (["base"] if without or not lora else []) + (["lora"] if lora else [])
    out = out if isinstance(out, Path) else out()
    out.mkdir(parents=True, exist_ok=True)
    done: dict[tuple[int, str], tuple[Picture, Path]] = {}
    for version in versions:
        with frozen(parts.denoiser) if version == "base" else nullcontext():
            made = sample(
                family,
                parts,
                told,
                shots,
                batch=batch,
                device=torch.device(source.device),
                tile=config.memory.tile_vae,
            )
            for index, picture in enumerate(made):
                name = f"{index:03d}-{slug(picture.shot.prompt)}-{picture.shot.seed}"
                name += f"-{version}" if len(versions) > 1 else ""
                done[index, version] = picture, save(picture.frames, out / name, variant.fps)
                progress("sampling", len(done), len(shots) * len(versions))
    ordered = [
        Made(*done[index, version], version) for index in range(len(shots)) for version in versions
    ]
    labels = [
        f"{made.picture.shot.prompt}\nseed {made.picture.shot.seed}"
        + (f" {made.version}" if len(versions) > 1 else "")
        for made in ordered
    ]
    columns = len(seeds) * len(versions)
    sheet = grid([made.picture for made in ordered], columns, labels=labels)
    return Generated(
        tuple(made.path for made in ordered),
        save(sheet, out / "grid", variant.fps),
        write(describe(family, source, lora, ordered), out / "generate.json"),
    )


@dataclass(frozen=True, slots=True)
class Made:
    """A picture, its file, and what it was sampled with: "base" or "lora"."""

    picture: Picture
    path: Path
    version: str


def describe(
    family: Family, source: Source, lora: Sequence[tuple[Path, float]], made: Sequence[Made]
) -> dict[str, Any]:
    """What `generate.json` says: enough to make the same pictures again."""
    return {
        "model": {
            "family": family.name,
            "variant": source.variant,
            "source": source.path,
            "revision": source.revision,
            "dtype": str(source.dtype).removeprefix("torch."),
            **source.reading,
        },
        "lora": [
            {"path": str(file), "strength": strength, "sha256": digest(file)}
            for path, strength in lora
            for file in files_of(path)
        ],
        "pictures": [
            {
                "file": each.path.name,
                "lora": each.version == "lora",
                **asdict(each.picture.shot),
                "images": [
                    {"path": str(path), "sha256": digest(path)} for path in each.picture.shot.images
                ],
            }
            for each in made
        ],
    }


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(record: dict[str, Any], path: Path) -> Path:
    """Write JSON atomically; returns the path."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    with replacing(path) as draft:
        draft.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    return path
