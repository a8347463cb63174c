"""InstantID taught by `frisket train` from a configuration: the start of the run, and its end."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.effects.cells import Cell, Scores, run_cell
from benchmarks.identity.adapters import FAMILY
from benchmarks.identity.people import HELD_OUT, SIDE, list_corpus, write_portraits
from benchmarks.identity.reading import Pictures, lay_pixels, read_pictures
from benchmarks.identity.rows import Bench, Job
from benchmarks.identity.samples import (
    REFERENCE_BACKGROUND,
    Ask,
    draw_ask,
    list_asks,
    measure_points,
    sample_pictures,
    score_pictures,
)

from frisket.config.load import check
from frisket.config.tree import Config
from frisket.faces.align import align_faces
from frisket.faces.base import EMBEDDERS, FaceEmbedding, embed_faces
from frisket.inference.methods.identity.instantid.method import InstantIdStrength
from frisket.inference.methods.plugin import METHODS, MethodRequest, ReferencePicture
from frisket.pocket.portraits import ProceduralPortrait
from frisket.recipes.train import train

PEOPLE = range(50_000, 50_100)
STEPS, BATCH, RATE = 400, 8, 1e-3
# Steps and rate by row: one step of no length leaves what a run begins with.
ROWS: Mapping[str, tuple[int, float]] = {"start": (1, 1e-30), "taught": (STEPS, RATE)}


def make_config(bench: Bench, seed: int, name: str) -> Config:
    """The run of a seed; clips of one person lie in one folder, with their key points beside."""
    data = []
    for person in PEOPLE:
        folder = bench.out / "taught" / str(person)
        write_portraits(folder, list_corpus([person]))
        data.append({"clips": folder / "clips", "masks": folder / "masks", "resolution": SIDE})
    steps, rate = ROWS[name]
    tree: dict[str, Any] = {
        "model": {
            "family": "pocket",
            "variant": "image",
            "device": "cpu",
            "source": str(bench.out / "base" / "model"),
            "train": "image_adapter",
        },
        "image_adapter": {
            "kind": "instantid",
            "embedder": "tiny",
            "detector": "drawn",
            "references": "other",
            "strokes": "scaled",
        },
        "data": data,
        "regions": {"face": 1.0, "background": 0.0},
        "optimizer": {"lr": rate, "warmup": 20, "schedule": "linear", "final": 0.05},
        "validation": {"holdout": 0},
        "run": {
            "output": bench.out / "runs" / f"taught-{name}-{seed}",
            "cache": bench.out / "cache",
            "steps": steps,
            "batch": BATCH,
            "seed": seed,
            "save_every": 0,
            "threads": 1,
        },
    }
    config = Config.model_validate(tree)
    check(config)
    return config


def describe_portrait(drawn: ProceduralPortrait, name: str) -> ReferencePicture:
    """A drawn picture as the method is shown it, its key points exact."""
    points = torch.from_numpy(drawn.keypoints)
    aligned = align_faces(lay_pixels(drawn.picture[None]), points[None])
    (face,) = embed_faces(EMBEDDERS.load("tiny").load("", "cpu"), aligned)
    return ReferencePicture(Path(name), torch.from_numpy(drawn.picture), face, points)


def draw_reference(person: int) -> FaceEmbedding:
    """A drawn picture of a person before a white wall, looking ahead, as it is embedded."""
    asks = [Ask(person, "ahead", REFERENCE_BACKGROUND, person)]
    reference = describe_portrait(draw_ask(asks[0]).draw(), f"{person}.png")
    assert reference.face is not None
    return reference.face


def sample_posed(bench: Bench, source: Path, ask: Ask) -> Pictures:
    """One picture of a person where the ask's drawn picture has the key points."""
    pose = describe_portrait(draw_ask(ask).draw(), "pose.png")
    shown = ReferencePicture(Path("face.png"), pose.frame, draw_reference(ask.person))
    request = MethodRequest(
        source=source,
        references=(shown,),
        pose=pose,
        options=InstantIdStrength(strokes="scaled"),
    )
    method = METHODS.load("instantid").read(request, FAMILY, "image").build(FAMILY, bench.parts)
    return sample_pictures(bench.parts, [ask], [ask.write(looks=False)], method)


def run_taught(bench: Bench, seed: int, name: str) -> Cell:
    """The held-out people by what a run begins with, or ends with; prompts without `looks`."""
    asks = list_asks(seed, HELD_OUT)

    def work() -> tuple[Scores, Pictures]:
        source = train(make_config(bench, seed, name)).image_adapter
        assert source is not None
        pictures = np.concatenate([sample_posed(bench, source, ask) for ask in asks])
        exact = np.stack([draw_ask(ask).draw().keypoints for ask in asks])
        points, _ = read_pictures(bench.reader, pictures)
        scores = score_pictures(bench.reader, pictures, asks)
        return {**scores, "points": measure_points(points, exact)}, pictures

    return run_cell(bench.out, "taught", name, seed, (), work)


def list_jobs(bench: Bench, seeds: list[int]) -> list[Job]:
    """Both rows, seed by seed."""
    return [
        ("taught", name, seed, partial(run_taught, bench, seed, name))
        for seed in seeds
        for name in ROWS
    ]
