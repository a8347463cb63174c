"""The page of `frisket quickstart`: pictures first, then numbers, then what was claimed of them."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from frisket.evaluation.page import Claim, Column, Figure, PageSection, PageTable, ReportPage, Row
from frisket.runs import quickstart_data

TITLE = "Teach the model this, and only this"
TITLES = {
    "base": "the base, untouched",
    "no_mask": "no mask",
    "mask": "mask",
    "mask_prior": "mask + prior",
    "character": 'preset "character": mask + prior + background swap',
}
VARIANTS = tuple(name for name in TITLES if name != "base")  # in the order of the page
COLUMNS = (
    Column("leak", "Orange and purple where nobody asked for them.", "low", ".3f"),
    Column("fidelity", "PSNR of the subject inside its mask, dB.", "high", ".1f"),
    Column("found", "Right subject on the right NEW background.", "high", ".0%"),
    Column("drift", "How far the rest of the model moved.", "low", ".3f"),
    Column("seconds", "CPU time of training.", "low", ".0f"),
    Column("mib", "Largest memory of the process.", "low", ".0f"),
)


@dataclass(frozen=True, slots=True)
class QuickstartResult:
    """What a job measured, with its pictures."""

    scores: quickstart_data.Scores
    seconds: float
    mib: float
    plain: quickstart_data._Pictures
    placed: quickstart_data._Pictures


def build_page(
    results: Mapping[tuple[str, int], QuickstartResult],
    base: QuickstartResult,
    output: Path,
    wall: float,
) -> ReportPage:
    """The report: pictures first, then the table, then what was claimed and what came out.

    `results` by variant and seed, all of them; `wall` is the seconds that the whole run took.
    """
    seeds = sorted({seed for _, seed in results})
    table = _list_values(results, seeds)
    mean = {
        name: {key: fmean(values) for key, values in row.items()} for name, row in table.items()
    }
    claims = judge_claims(mean)
    untouched = {key: (float(getattr(base.scores, key)),) for key in ("leak", "fidelity", "found")}
    rows = [Row(TITLES["base"], untouched)]
    rows += [Row(TITLES[name], row) for name, row in table.items()]
    numbers = PageTable("Mean over seeds, each seed below", COLUMNS, rows)
    return ReportPage(
        title=TITLE,
        verdict=write_verdict(mean),
        sections=[
            show_training_data(output),
            show_samples(results, base, seeds[0]),
            PageSection("The numbers", tables=[numbers]),
        ],
        claims=claims,
        footer={
            "frisket": version("frisket"),
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "seeds": ", ".join(map(str, seeds)),
            "whole run": f"{wall:.0f} s",
        },
        data={
            "verdict": write_verdict(mean),
            "variants": table,
            "details": {
                name: [asdict(results[name, seed].scores) for seed in seeds] for name in VARIANTS
            },
            "base": asdict(base.scores),
            "claims": [asdict(claim) for claim in claims],
            "wall_seconds": round(wall, 1),
        },
    )


def _list_values(
    results: Mapping[tuple[str, int], QuickstartResult], seeds: Sequence[int]
) -> dict[str, dict[str, list[Any]]]:
    """The numbers of the table, by variant and column, one a seed."""
    return {
        name: {
            "leak": [results[name, seed].scores.leak for seed in seeds],
            "fidelity": [results[name, seed].scores.fidelity for seed in seeds],
            "found": [results[name, seed].scores.found for seed in seeds],
            "drift": [results[name, seed].scores.drift for seed in seeds],
            "seconds": [results[name, seed].seconds for seed in seeds],
            "mib": [results[name, seed].mib for seed in seeds],
        }
        for name in VARIANTS
    }


def build_draft_page(
    results: Mapping[tuple[str, int], QuickstartResult],
    base: QuickstartResult | None,
    output: Path,
    jobs: int,
) -> ReportPage:
    """The page while runs go on: the data, and what was sampled so far."""
    sections = [show_training_data(output)]
    if base is not None:
        first = min((seed for _, seed in results), default=0)
        sections.append(show_samples(results, base, first))
    return ReportPage(
        title=TITLE,
        verdict=f"{len(results)} of {jobs} trainings are done; this page fills while they run.",
        sections=sections,
        refresh=True,
    )


def judge_claims(mean: Mapping[str, Mapping[str, float]]) -> list[Claim]:
    """What the quick start is to show; fixed before any result was looked at."""
    leaks = mean["no_mask"]["leak"] / max(mean["mask"]["leak"], 1e-6)
    cut = 1 - mean["mask_prior"]["drift"] / mean["mask"]["drift"]
    hit_rate = mean["character"]["found"]
    return [
        Claim(
            "Without a mask the background leaks at least 4x as much as with one.",
            f"{leaks:.1f}x",
            leaks >= 4,
        ),
        Claim(
            "The prior cuts drift by at least 40 % against the mask alone.",
            f"{cut:.0%}",
            cut >= 0.4,
        ),
        Claim(
            "The full recipe finds the subject on at least 80 % of new backgrounds.",
            f"{hit_rate:.0%}",
            hit_rate >= 0.8,
        ),
    ]


def write_verdict(mean: Mapping[str, Mapping[str, float]]) -> str:
    """One line a beginner understands; it praises nothing that was not shown."""
    leaks = mean["no_mask"]["leak"] / max(mean["mask"]["leak"], 1e-6)
    alone, full = mean["mask"]["found"], mean["character"]["found"]
    worked = "The mask worked" if leaks >= 4 else "The mask was not shown to work"
    return (
        f"{worked}: without it the background was learnt {leaks:.1f}x as much. The mask alone finds"
        f" the subject on {alone:.0%} of new backgrounds; with the prior and the background swap it"
        f" is {full:.0%}."
    )


def show_training_data(output: Path) -> PageSection:
    """The training clips and masks as `frisket inspect` shows them."""
    sheets = sorted((output / "inspect").glob("*.png"))
    figures = (
        [
            Figure(
                "What the model is taught: 8 clips, their masks, the weights on the latent grid.",
                sheets[0].read_bytes(),
            )
        ]
        if sheets
        else []
    )
    return PageSection(
        "The data",
        "A creature the base has never seen, always on one loud zig-zag it has never seen either."
        ' Every caption is just "sks".',
        figures=figures,
    )


def show_samples(
    results: Mapping[tuple[str, int], QuickstartResult], base: QuickstartResult, seed: int
) -> PageSection:
    """Sample grids of every variant, same prompts, same seeds."""
    results_there = {name: results[name, seed] for name in VARIANTS if (name, seed) in results}
    by_name = {"base": base, **results_there}
    figures = []
    for name, result in by_name.items():
        sheet = np.concatenate(
            [
                join_row(result.plain[:12]),
                join_row(result.placed[:12]),
                join_row(result.placed[12:24]),
            ]
        )
        figures.append(
            Figure(
                TITLES[name], sheet, 'first row: "sks"; below: "sks on ..." new backgrounds', 860
            )
        )
    return PageSection(
        "What it learnt",
        "The same prompts and seeds for all. The first row names no background: what appears there"
        " besides the creature was learnt with it. The rows below ask for backgrounds the creature"
        " was never seen on.",
        figures=figures,
    )


def join_row(pictures: quickstart_data._Pictures) -> quickstart_data._Pictures:
    """Pictures side by side with a grey seam, enlarged twice with hard pixels."""
    height = pictures.shape[1]
    seam = np.full((height, 2, 3), 128, np.uint8)
    parts = [part for picture in pictures for part in (picture, seam)][:-1]
    row = np.concatenate(parts, axis=1)
    row = np.concatenate([row, np.full((2, row.shape[1], 3), 128, np.uint8)])
    return row.repeat(2, axis=0).repeat(2, axis=1)
