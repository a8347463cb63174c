"""The rows of the benchmark: what each asks of the base, and what it measures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.effects.cells import Cell, Scores, run_cell
from benchmarks.identity.adapters import FAMILY, load_base, train_adapter, wear_adapter
from benchmarks.identity.base import make_base
from benchmarks.identity.people import HELD_OUT, stack_pictures
from benchmarks.identity.reading import Pictures, Reader, read_pictures, train_reader
from benchmarks.identity.samples import (
    STEPS,
    Ask,
    draw_ask,
    draw_region,
    list_asks,
    measure_change,
    measure_points,
    sample_pictures,
    score_pictures,
    stack_references,
)

from frisket.families.base import Parts
from frisket.inference.methods.base import Method
from frisket.inference.methods.identity.attention_maps import (
    ChangedAttention,
    ScalePower,
    ScheduledMask,
)
from frisket.inference.methods.identity.decoupled import DecoupledGuidance
from frisket.inference.methods.identity.guidance import GuidanceStrength
from frisket.inference.methods.identity.image_attention import ImageAttention
from frisket.inference.methods.identity.rescale import rescale_to_output
from frisket.inference.methods.identity.strict import StrictConfinement

SCALES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
STRENGTHS = (1.0, 3.0, 5.0)
FEW = 4  # steps of FastFace's rows
MAPS = {"power": ScalePower(), "mask": ScheduledMask()}
REGIONS = ("base", "everywhere", "masked", "strict")


@dataclass(frozen=True, eq=False)
class Bench:
    """What every row needs: the folder, the base's parts and the reader of pictures."""

    out: Path
    parts: Parts
    reader: Reader

    def find_adapter(self, seed: int) -> Path:
        """The adapter of a seed, taught where it is not there yet."""
        path = self.out / "adapters" / f"faceid-{seed}.safetensors"
        train_adapter(path, self.parts, seed)
        return path

    def wear(
        self, seed: int, asks: Sequence[Ask], *, model: Any = None, **options: Any
    ) -> ImageAttention:
        """The adapter of a seed with the reference of each ask, on the base or another model.

        `options` are those of `wear_adapter`.
        """
        faces = stack_references(asks)
        return wear_adapter(self.find_adapter(seed), model or self.parts.denoiser, faces, **options)


def open_bench(out: Path) -> Bench:
    """Base and reader, made where they are not there yet."""
    reader = train_reader(out / "reader.safetensors")
    return Bench(out, load_base(make_base(out)), reader)


def measure_row(
    bench: Bench, asks: Sequence[Ask], method: Method | None, steps: int = STEPS
) -> tuple[Scores, Pictures]:
    """Samples of the asks' own prompts, and their scores."""
    prompts = [ask.write() for ask in asks]
    pictures = sample_pictures(bench.parts, asks, prompts, method, steps=steps)
    return score_pictures(bench.reader, pictures, asks), pictures


def run_scale(bench: Bench, seed: int, scale: float, *, rescaled: bool) -> Cell:
    """The adapter at a scale, plain or at the norm of what it is added to."""
    asks = list_asks(seed, HELD_OUT)

    def work() -> tuple[Scores, Pictures]:
        merge = rescale_to_output if rescaled else None
        return measure_row(bench, asks, bench.wear(seed, asks, scale=scale, merge=merge))

    part = "rescaled" if rescaled else "scale"
    return run_cell(bench.out, part, f"{scale:g}", seed, (), work)


def run_guidance(bench: Bench, seed: int, first: float, second: float, maps: str = "") -> Cell:
    """FastFace's guidance (identity `first`, text `second`) in four steps, maps changed or not."""
    asks = list_asks(seed, HELD_OUT)

    def work() -> tuple[Scores, Pictures]:
        options = {"attend": ChangedAttention(MAPS[maps].change)} if maps else {}
        method = DecoupledGuidance(
            FAMILY,
            bench.parts.denoiser,
            bench.wear(seed, asks, **options),
            GuidanceStrength(first),
            GuidanceStrength(second),
        )
        return measure_row(bench, asks, method, FEW)

    name = f"{first:g}-{second:g}{f'-{maps}' if maps else ''}"
    return run_cell(bench.out, "guidance", name, seed, (), work)


@cache
def sample_base(bench: Bench, seed: int) -> tuple[Scores, Pictures]:
    """What the base makes of a seed's asks without any face."""
    return measure_row(bench, list_asks(seed, HELD_OUT), None)


def run_region(bench: Bench, seed: int, kind: str) -> Cell:
    """The adapter at 1 everywhere, masked at the attention, or strictly; or not at all."""
    asks = list_asks(seed, HELD_OUT)

    def work() -> tuple[Scores, Pictures]:
        region = draw_region()
        mask = torch.from_numpy(region)[None, None]
        attention = bench.wear(seed, asks, mask=mask if kind == "masked" else None)
        methods: Mapping[str, Method | None] = {
            "base": None,
            "everywhere": attention,
            "masked": attention,
            "strict": StrictConfinement(bench.parts.denoiser, attention, mask),
        }
        _, before = sample_base(bench, seed)
        method = methods[kind]
        scores, pictures = measure_row(bench, asks, method) if method else sample_base(bench, seed)
        return {**scores, **measure_change(pictures, before, region)}, pictures

    return run_cell(bench.out, "region", kind, seed, (), work)


def run_tools(bench: Bench, kind: str) -> Cell:
    """Drawn pictures of the right people, by key points that are exact or read."""
    asks = list_asks(0, HELD_OUT, 16)

    def work() -> tuple[Scores, Pictures]:
        portraits = [draw_ask(ask) for ask in asks]
        drawn = [portrait.draw() for portrait in portraits]
        pictures = stack_pictures(drawn)
        exact = np.stack([portrait.keypoints for portrait in drawn])
        read, _ = read_pictures(bench.reader, pictures)
        points = exact if kind == "exact" else read
        scores = score_pictures(bench.reader, pictures, asks, points)
        return {**scores, "points": measure_points(points, exact)}, pictures

    return run_cell(bench.out, "tools", kind, 0, (), work)


Job = tuple[str, str, int, Callable[[], Cell]]  # part, name, seed, what runs it


def list_jobs(bench: Bench, seeds: Sequence[int]) -> list[Job]:
    """Every cell but those of LoRAs, seed by seed."""
    jobs: list[Job] = []
    if 0 in seeds:
        jobs += [("tools", kind, 0, partial(run_tools, bench, kind)) for kind in ("exact", "read")]
    for seed in seeds:
        for scale in SCALES:
            work = partial(run_scale, bench, seed, scale, rescaled=False)
            jobs.append(("scale", f"{scale:g}", seed, work))
        jobs += [("region", kind, seed, partial(run_region, bench, seed, kind)) for kind in REGIONS]
        for scale in SCALES[1:]:  # at 0 nothing is rescaled
            work = partial(run_scale, bench, seed, scale, rescaled=True)
            jobs.append(("rescaled", f"{scale:g}", seed, work))
        for first in STRENGTHS:
            for second in STRENGTHS:
                work = partial(run_guidance, bench, seed, first, second)
                jobs.append(("guidance", f"{first:g}-{second:g}", seed, work))
        for maps in MAPS:
            work = partial(run_guidance, bench, seed, 3.0, 3.0, maps)
            jobs.append(("guidance", f"3-3-{maps}", seed, work))
    return jobs
