"""Attention read from a denoiser: clips noised at chosen t, or prompts while they are sampled."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.attach import unwrap_model
from frisket.attention.base import AttentionLayer, Positions, Projections
from frisket.attention.capture import (
    AttentionRecord,
    Form,
    Softmax,
    capture,
    choose_layers,
    match_prompts,
)
from frisket.attention.maps import compare_phrases, lay_on_grid
from frisket.evaluation.word_alignment import (
    WordAlignment,
    average_alignments,
    measure_alignment,
)
from frisket.families.base import Conditioning, Family, Parts
from frisket.families.experts import Experts, experts_of
from frisket.inference.generate import Picture, PromptEmbeddings, sample
from frisket.inference.sample_specs import SampleSpec
from frisket.objectives.base import Objective
from frisket.scoring.attention.phrases import RegionPhrase
from frisket.scoring.errors import ErrorLevels
from frisket.shapes import CellPlane, Frames, Latents

SceneMaps = Float[Tensor, "T f h w"]  # one a phrase, on the latent grid
BASE, TUNED = "base", "tuned"  # model
ALL_LAYERS = "all layers"  # the mean of the chosen ones


@dataclass(frozen=True, slots=True)
class AttentionReading:
    """What is read: layers by name, the form of the maps, and at which noise levels of clips."""

    levels: ErrorLevels
    layers: tuple[str, ...] = ("all",)
    form: Form = "attention"
    softmax: Softmax = "all"


@dataclass(frozen=True, slots=True)
class WordScene:
    """What phrases are read in: a clip with its caption, or a sample with its prompt.

    `positions` has one entry a phrase; `coverage` is there where a clip has masks, a plane a
    region, `frames` once its pixels are.
    """

    name: str
    prompt: str
    positions: tuple[Positions, ...]
    latents: Latents | None = None
    conditioning: Conditioning = field(default_factory=dict)
    coverage: Mapping[str, CellPlane] = field(default_factory=dict)
    frames: Frames | None = None


@dataclass(frozen=True, slots=True)
class PhraseScenes:
    """Phrases, and the clips that they are read in."""

    phrases: tuple[RegionPhrase, ...] = ()
    scenes: tuple[WordScene, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadMaps:
    """The maps of one scene at one level (`t = 0.5`, or `step 3 of 20`) and one layer.

    `alignments` are by the number of the phrase, of those that have a region here to be held
    against.
    """

    level: str
    layer: str
    maps: SceneMaps
    alignments: Mapping[int, WordAlignment] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelReading:
    """One model's maps, a list a scene; `scenes` differ between models where they were sampled."""

    model: str  # BASE or TUNED
    scenes: Sequence[WordScene]
    maps: Sequence[Sequence[ReadMaps]]

    @property
    def layers(self) -> list[str]:
        """All layers first, in the order of the forward pass."""
        return list(dict.fromkeys(read.layer for scene in self.maps for read in scene))

    @property
    def levels(self) -> list[str]:
        """Noise levels or steps in the order they were read."""
        return list(dict.fromkeys(read.level for scene in self.maps for read in scene))

    def find(self, scene: int, level: str, layer: str) -> ReadMaps | None:
        """One map; None where it was not read."""
        matching = (read for read in self.maps[scene] if (read.level, read.layer) == (level, layer))
        return next(matching, None)

    def align(
        self, number: int, *, layer: str | None = None, level: str | None = None
    ) -> dict[str, WordAlignment]:
        """Alignments of a phrase by the name of the scene, each the mean over what is left open.

        Of the layers the mean of their maps stands for all, where there are several.
        """
        layer = layer or self.layers[0]
        results: dict[str, list[WordAlignment]] = {}
        for scene, maps in zip(self.scenes, self.maps, strict=True):
            fitting = [
                read.alignments[number]
                for read in maps
                if read.layer == layer and level in (None, read.level) and number in read.alignments
            ]
            if fitting:
                results[scene.name] = fitting
        return {name: average_alignments(fitting) for name, fitting in results.items()}


def find_layers(family: Family, denoiser: nn.Module, names: Sequence[str]) -> list[AttentionLayer]:
    """The chosen layers of one plain denoiser; ValueError names what there is (`choose_layers`)."""
    return list(choose_layers(family.list_attention_layers(unwrap_model(denoiser)), names))


def pick_expert(denoiser: nn.Module, level: float) -> nn.Module:
    """The plain denoiser that a noise level falls to."""
    bare = unwrap_model(denoiser)
    if isinstance(bare, Experts):
        return bare.experts[bare.find_name(torch.tensor([level]))]
    return next(iter(experts_of(bare).values()))


@torch.no_grad()
def read_clip(
    family: Family,
    objective: Objective,
    denoiser: nn.Module,
    scene: WordScene,
    reading: AttentionReading,
    phrases: Sequence[RegionPhrase],
    number: int,
) -> list[ReadMaps]:
    """Attention in one clip at every level, the maps averaged over the draws of noise.

    Alignments are taken of each draw's map and then averaged: what one look is worth. Clip
    `number` draws the noise that errors are measured with.
    """
    assert scene.latents is not None
    levels = reading.levels
    clean = scene.latents.to(levels.device)
    conditioning = {name: value.to(levels.device) for name, value in scene.conditioning.items()}
    results = []
    for level in levels.t:
        layers = find_layers(family, pick_expert(denoiser, level), reading.layers)
        t = torch.full((len(clean),), level, device=clean.device)
        draws: dict[str, list[SceneMaps]] = {}
        for noise in levels.noise(clean, number):
            noisy, _ = objective.corrupt(clean, noise, t)
            with capture(
                layers, [scene.positions], form=reading.form, softmax=reading.softmax
            ) as captured:
                family.predict(denoiser, noisy, t, conditioning)
            cells = tuple(clean.shape[2:])
            for layer, maps in _collect_maps(captured.maps, cells, reading.form).items():
                draws.setdefault(layer, []).append(maps)
        results += [
            ReadMaps(
                f"t = {level:g}",
                layer,
                torch.stack(layer_draws).mean(0),
                _align_draws(layer_draws, scene, phrases),
            )
            for layer, layer_draws in draws.items()
        ]
    return results


def read_model(
    family: Family,
    variant: str,
    denoiser: nn.Module,
    scenes: Sequence[WordScene],
    reading: AttentionReading,
    phrases: Sequence[RegionPhrase],
    *,
    model: str,
    report: Callable[[int, int], None] = lambda *_: None,
) -> ModelReading:
    """Attention of a denoiser as it is, in every clip; `report` hears how many are done."""
    objective, maps = family.objective(variant), []
    for number, scene in enumerate(scenes):
        maps.append(read_clip(family, objective, denoiser, scene, reading, phrases, number))
        report(number + 1, len(scenes))
    return ModelReading(model, scenes, maps)


@torch.no_grad()
def read_sample(
    family: Family,
    parts: Parts,
    embeddings: PromptEmbeddings,
    spec: SampleSpec,
    scene: WordScene,
    reading: AttentionReading,
    *,
    tile: bool = False,
) -> tuple[Picture, list[ReadMaps]]:
    """Sample one picture, and read attention at the steps that lie where the levels do.

    Of N steps a level t takes the one (1 - t) of the way: t = 1 the first, t near 0 the last. That
    is the level itself only where the sampler's steps are even.
    """
    assert parts.denoiser is not None
    conditioning = embeddings[spec.prompt, spec.images]
    captures: list[AttentionRecord] = []
    with ExitStack() as stack:
        for expert in _order_experts(parts.denoiser):
            layers = find_layers(family, expert, reading.layers)
            captures.append(
                stack.enter_context(
                    capture(
                        layers,
                        [scene.positions],
                        form=reading.form,
                        softmax=reading.softmax,
                        rows=_choose_rows_of(conditioning),
                    )
                )
            )
        device, specs = reading.levels.device, [spec]
        (picture,) = sample(family, parts, embeddings, specs, batch=1, device=device, tile=tile)
    calls = [call for captured in captures for call in captured.calls]
    if not calls:
        raise ValueError(
            f"{family.name} did not hand the prompt {spec.prompt!r} to its attention as it was"
            " embedded: attention cannot be read while sampling, only from clips"
        )
    cells = family.variants[parts.variant].grid.cells(spec.frames, spec.height, spec.width)
    results = []
    for index in sorted({round((1 - t) * (len(calls) - 1)) for t in reading.levels.t}):
        maps = _collect_maps(calls[index].maps, cells, reading.form)
        level = f"step {index + 1} of {len(calls)}"
        results += [ReadMaps(level, layer, layer_maps) for layer, layer_maps in maps.items()]
    return picture, results


def _order_experts(denoiser: nn.Module) -> list[nn.Module]:
    """The plain denoisers in the order that sampling comes to them: of the highest t first."""
    bare = unwrap_model(denoiser)
    experts = experts_of(bare)
    if isinstance(bare, Experts):
        ranges = bare.ranges
        return [experts[name] for name in sorted(experts, key=lambda name: -ranges[name][0])]
    return list(experts.values())


def _choose_rows_of(conditioning: Conditioning) -> Callable[[Projections], Any]:
    """The rows of a prompt, whichever of its tensors the denoiser attends to: by width."""

    def choose(projections: Projections) -> Any:
        prompt = projections.prompt
        if prompt is None:
            raise ValueError(
                "this family does not say which prompt a row has: attention cannot be read while"
                " sampling, only from clips"
            )
        width = prompt[0].shape[-1]
        for text in conditioning.values():
            if text.ndim == 3 and text.shape[-1] == width and text.is_floating_point():
                return match_prompts(text)(projections)
        return None

    return choose


def _collect_maps(
    maps: Mapping[str, Tensor], cells: tuple[int, ...], form: Form
) -> dict[str, SceneMaps]:
    """A scene's maps on its latent grid by layer, and their mean where there are several."""
    frames, height, width = cells
    by_layer = {name: lay_on_grid(layer, (frames, height, width)) for name, layer in maps.items()}
    if len(by_layer) > 1:
        by_layer = {ALL_LAYERS: torch.stack(list(by_layer.values())).mean(0), **by_layer}
    if form == "output":
        by_layer = {name: compare_phrases(layer) for name, layer in by_layer.items()}
    return {name: layer[0].float().cpu() for name, layer in by_layer.items()}


def _align_draws(
    draws: Sequence[SceneMaps], scene: WordScene, phrases: Sequence[RegionPhrase]
) -> dict[int, WordAlignment]:
    alignments: dict[int, WordAlignment] = {}
    for number, entry in enumerate(phrases):
        cover = scene.coverage.get(entry.region)
        if cover is None or not scene.positions[number]:
            continue
        measured_draws = [measure_alignment(maps[number], cover.float().cpu()) for maps in draws]
        known_alignments = [alignment for alignment in measured_draws if alignment is not None]
        if known_alignments:
            alignments[number] = average_alignments(known_alignments)
    return alignments
