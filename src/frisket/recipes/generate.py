"""`frisket generate`: pictures or clips by prompt, with a LoRA and, to compare, without."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from frisket.adapters.lora import frozen
from frisket.adapters.routed.factors import Factors
from frisket.config.calls import ControlOptions, Fuse
from frisket.config.load import ConfigError
from frisket.config.load import check as check_config
from frisket.config.tree import Config
from frisket.disk.atomic import replacing
from frisket.disk.hashing import hash_file
from frisket.families.base import FAMILIES, Family, Parts, Source
from frisket.inference.generate import Picture, sample
from frisket.inference.grids import grid, save
from frisket.inference.methods.base import Method
from frisket.inference.sample_specs import check
from frisket.runs.control.asking import LABEL, ControlPlan, plan_control
from frisket.runs.methods.identity.plan import MethodPlan, plan_methods
from frisket.runs.methods.identity.resemblance import measure_resemblance
from frisket.runs.methods.regional import LoraPlace
from frisket.runs.prepare import source_of
from frisket.runs.sampling.lora_plan import LoraPlan, plan_loras
from frisket.runs.sampling.prompt_file import PromptLine, read_prompts
from frisket.runs.sampling.sampler import (
    embed_prompts,
    files_of,
    load_sampler,
    plan_of,
)
from frisket.runs.sampling.samples import build_specs, slug
from frisket.runs.sampling.versions import SampledVersion, list_versions
from frisket.runs.sampling.whole_models import digest_model, is_model
from frisket.shapes import Frames
from frisket.training.memory.out_of_memory import room_for

ALONE = Fuse()
NO_METHODS = MethodPlan()
NO_CONTROL = ControlOptions()


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
    masks: Sequence[str] = (),
    without: bool = False,
    fuse: Fuse = ALONE,
    control: ControlOptions = NO_CONTROL,
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
    `lora` are adapter files with their strengths (1 as trained); all of them act together, each
    where its own of `masks` says (`-`, and those without one: everywhere). `fuse` asks for a method
    that finds where each LoRA's words are and lets it act there alone, and writes the masks that it
    found beside the samples. `config.identity` names methods that act besides, `control` a picture
    that a ControlNet makes the samples follow. `without` samples
    the base as well, next to the LoRA's in the grid, and where there are several parts (LoRAs,
    methods) each of them alone; with no `lora` and no method the base is sampled alone.
    `prompt_file` adds a prompt a line, whose own options win over those given here; see
    `runs.sampling.prompt_file`. `images` are what the model starts from: its first frame, or the
    pictures it edits. Sizes in pixels, steps and guidance default to the variant's own. Pictures
    are on disk as soon as they are done. The text encoder is gone before the denoiser is loaded.

    Raises ConfigError for no prompts or no seeds, a wrong prompt file and LoRAs that cannot be
    fused by these prompts, AdapterMismatch for a LoRA of another base, WeightsNotFound, BadMedia,
    what `plan_methods` and `plan_control` raise, ValueError for what the model cannot make.
    """
    check_config(config)
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    size: dict[str, Any] = {"height": height, "width": width, "frames": frames, "steps": steps}
    settings = {**size, "negative": negative, "images": tuple(images), "guidance": guidance}
    variant = family.variants[source.variant]
    shots = build_specs(variant, _list_lines(prompts, prompt_file, seeds), seeds, settings)
    check(family, source.variant, shots)
    loras = plan_loras(family, source, lora, shots, fuse=fuse, masks=masks)
    plan = plan_methods(config.identity, family, source, shots, fuse=fuse.method, focus=loras.focus)
    followed = plan_control(control, config, family, source, shots)
    embeddings = embed_prompts(family, source, shots)
    factors: list[Factors] = []
    keep = factors if loras.is_routed else None
    parts = load_sampler(family, source, plan_of(config), lora, loras.places, keep=keep)
    fused = loras.build(family, parts, factors)
    methods = _build_methods(family, parts, source, plan, followed)
    versions = list_versions(tuple(methods), lora=bool(lora), without=without)
    folder = out if isinstance(out, Path) else out()
    folder.mkdir(parents=True, exist_ok=True)
    device, tile = torch.device(source.device), config.memory.tile_vae
    draw = partial(sample, family, parts, embeddings, shots, batch=batch, device=device, tile=tile)
    samples: dict[tuple[int, str], SavedSample] = {}
    for version, index, picture in _draw_versions(draw, versions, parts, fused, methods):
        path = folder / _name_file(index, picture, version, len(versions))
        saved_path = save(picture.frames, path, variant.fps)
        samples[index, version.name] = SavedSample(picture, saved_path, version)
        if version.lora:
            loras.save_masks(fused, picture, path, variant.fps)
        progress("sampling", len(samples), len(shots) * len(versions))
    ordered = [samples[index, version.name] for index in range(len(shots)) for version in versions]
    clips = [saved_sample.picture.frames for saved_sample in ordered]
    likeness = measure_resemblance(plan if without else NO_METHODS, clips)
    record = describe(family, source, loras, ordered, plan, followed)
    record |= {"likeness": likeness.records} if likeness.records else {}
    sheet = _lay_grid(ordered, len(versions), len(seeds), likeness.labels)
    paths = tuple(saved_sample.path for saved_sample in ordered)
    grid_path = save(sheet, folder / "grid", variant.fps)
    return Generated(paths, grid_path, write_record(record, folder / "generate.json"))


def _build_methods(
    family: Family,
    parts: Parts,
    source: Source,
    plan: MethodPlan,
    followed: ControlPlan | None,
) -> dict[str, Method]:
    """What acts besides LoRAs, by label: the methods, then the ControlNet."""
    control = {} if followed is None else {LABEL: followed.build(family, parts, source)}
    return {**plan.build(family, parts), **control}


def _lay_grid(
    samples: Sequence["SavedSample"], versions: int, seeds: int, notes: Sequence[str]
) -> Frames:
    """All samples side by side: a row a prompt, a column a seed and version, a note under each."""
    labels = [
        f"{_write_label(saved_sample, versions)}\n{note}".strip()
        for saved_sample, note in zip(samples, notes, strict=True)
    ]
    pictures = [saved_sample.picture for saved_sample in samples]
    return grid(pictures, seeds * versions, labels=labels)


def _list_lines(
    prompts: Sequence[str], prompt_file: Path | None, seeds: Sequence[int]
) -> list[PromptLine]:
    """The prompts, and those of a file behind them; ConfigError without prompts or seeds."""
    lines = [
        *(PromptLine(prompt) for prompt in prompts),
        *(read_prompts(prompt_file) if prompt_file else []),
    ]
    if not lines or not seeds:
        raise ConfigError(
            'generate: give at least one prompt (--prompt "...", or --prompt-file) and one seed'
        )
    return lines


def _draw_versions(
    draw: Callable[..., Iterable[Picture]],
    versions: Sequence[SampledVersion],
    parts: Parts,
    fused: Method | None,
    methods: Mapping[str, Method],
) -> Iterator[tuple[SampledVersion, int, Picture]]:
    """Every sample by its version and number, one version after the other."""
    assert parts.denoiser is not None
    for version in versions:
        method = version.choose_method(fused, methods)
        with nullcontext() if version.lora else frozen(parts.denoiser):
            for index, picture in enumerate(draw(method=method)):
                yield version, index, picture


def _name_file(index: int, picture: Picture, version: SampledVersion, versions: int) -> str:
    """The name of a file, without its suffix."""
    name = f"{index:03d}-{slug(picture.spec.prompt)}-{picture.spec.seed}"
    return f"{name}-{version.name}" if versions > 1 else name


def _write_label(sample: "SavedSample", versions: int) -> str:
    """What stands above a sample in the grid."""
    version = f" {sample.version.name}" if versions > 1 or sample.version.methods else ""
    return f"{sample.picture.spec.prompt}\nseed {sample.picture.spec.seed}{version}"


@dataclass(frozen=True, slots=True)
class SavedSample:
    """A picture, its file, and what it was sampled with."""

    picture: Picture
    path: Path
    version: SampledVersion


def describe(
    family: Family,
    source: Source,
    loras: LoraPlan,
    samples: Sequence[SavedSample],
    plan: MethodPlan = NO_METHODS,
    followed: ControlPlan | None = None,
) -> dict[str, Any]:
    """What `generate.json` says: enough to make the same pictures again."""
    fused = {} if loras.fusion is None else {"fuse": loras.fusion.describe()}
    methods = {"methods": plan.describe()} if plan.planned else {}
    control = {} if followed is None else {LABEL: followed.describe()}
    has_methods = bool(plan.planned) or followed is not None
    return (
        fused
        | methods
        | control
        | {
            "model": {
                "family": family.name,
                "variant": source.variant,
                "source": source.path,
                "revision": source.revision,
                "dtype": str(source.dtype).removeprefix("torch."),
                **source.reading,
            },
            "lora": [
                {
                    "path": str(file),
                    "strength": strength,
                    "sha256": digest(file),
                    **_name_mask(place),
                }
                for (path, strength), place in zip_longest(loras.files, loras.places)
                for file in files_of(path)
            ],
            "pictures": [
                {
                    "file": saved_sample.path.name,
                    "lora": saved_sample.version.lora,
                    **({"methods": list(saved_sample.version.methods)} if has_methods else {}),
                    **asdict(saved_sample.picture.spec),
                    "images": [
                        {"path": str(path), "sha256": digest(path)}
                        for path in saved_sample.picture.spec.images
                    ],
                }
                for saved_sample in samples
            ],
        }
    )


def _name_mask(place: LoraPlace | None) -> dict[str, str]:
    return {} if place is None else {"mask": str(place.path), "mask_sha256": digest(place.path)}


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the weights of a model."""
    if is_model(path):
        return digest_model(path)
    return hash_file(path)


def write_record(record: dict[str, Any], path: Path) -> Path:
    """Write JSON atomically; returns the path."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    with replacing(path) as draft:
        draft.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    return path
