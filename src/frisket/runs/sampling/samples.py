"""What a run samples, from prompts to pictures: for `generate`, for previews and for scoring."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from frisket.config.tree import Preview
from frisket.families.base import Family, Parts, Source, Variant
from frisket.inference.generate import Picture, PromptEmbeddings, embed, sample
from frisket.inference.grids import grid, save
from frisket.inference.methods.base import Method
from frisket.inference.sample_specs import SampleSpec, build_spec
from frisket.runs.sampling.prompt_file import PromptLine
from frisket.runs.sampling.sampler import load_sampler
from frisket.shapes import Frames

LONGEST = 40  # letters of a prompt in a file name


def build_specs(
    variant: Variant, lines: Sequence[PromptLine], seeds: Sequence[int], settings: Mapping[str, Any]
) -> list[SampleSpec]:
    """Every line with every seed; a line's own options win, its own seed is its only one."""
    specs = []
    for line in lines:
        options = {**settings, **line.options}
        own = options.pop("seed", None)
        specs += [
            build_spec(variant, line.prompt, seed, **options)
            for seed in (seeds if own is None else [own])
        ]
    return specs


def write_grid(
    family: Family,
    parts: Parts,
    preview: Preview,
    path: Path,
    embeddings: PromptEmbeddings | None = None,
    *,
    device: torch.device | None = None,
    tile: bool = False,
    method: Method | None = None,
    plain_label: str = "",
    plain_method: Method | None = None,
    look: Callable[[Sequence[Picture]], None] = lambda _: None,
) -> Path:
    """A grid of a `[preview]`, a row a prompt and a column a seed, as `path`.png or .mp4.

    `embeddings` are its prompts, embedded; without them `parts` has the text encoder. `plain_label`
    says that the same are sampled by `plain_method` in place of `method` too, in columns after the
    others, and what those are called. `look` is shown the pictures (by `method`) before that.
    """
    specs = build_preview_specs(family.variants[parts.variant], preview)
    embeddings = (
        embed(family, parts.variant, parts.text, specs) if embeddings is None else embeddings
    )
    draw = partial(sample, family, parts, embeddings, specs, device=device, tile=tile)
    pictures = list(draw(method=method))
    look(pictures)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = len(preview.seeds)
    sheet = grid(pictures, columns)
    if plain_label:
        sheet = _lay_beside(pictures, list(draw(method=plain_method)), columns, plain_label)
    return save(sheet, path, family.variants[parts.variant].fps)


def _lay_beside(
    pictures: Sequence[Picture], plain_pictures: Sequence[Picture], columns: int, name: str
) -> Frames:
    """Each row with its plain ones after it; `name` is written under those."""
    labelled = []
    for start in range(0, len(pictures), columns):
        for row, note in ((pictures, ""), (plain_pictures, f" {name}")):
            labelled += [(picture, note) for picture in row[start : start + columns]]
    labels = [f"{shot.spec.prompt}\nseed {shot.spec.seed}{note}" for shot, note in labelled]
    return grid([picture for picture, _ in labelled], 2 * columns, labels=labels)


def build_preview_specs(variant: Variant, preview: Preview) -> list[SampleSpec]:
    """What a `[preview]` shows."""
    settings = preview.sampling()
    lines = [PromptLine(prompt) for prompt in preview.prompts]
    return build_specs(variant, lines, preview.seeds, settings)


def load(family: Family, source: Source) -> Parts:
    """All parts of a variant, on the source's device."""
    parts = load_sampler(family, source)
    parts.text = family.load_text(source)
    return parts


def slug(prompt: str) -> str:
    """A prompt as part of a file name: letters and digits of any script, joined by `-`."""
    return re.sub(r"\W+", "-", prompt.lower())[:LONGEST].strip("-_") or "empty"
