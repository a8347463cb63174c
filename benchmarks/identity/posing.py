"""InstantID for the base: a face by its embedding, placed by key points, IdentityNet on or off."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from benchmarks.effects.cells import Cell, Scores, run_cell
from benchmarks.identity.adapters import BATCH, FAMILY, RATE, WARM, draw_batch, load_lesson
from benchmarks.identity.people import HELD_OUT, SIDE, list_corpus
from benchmarks.identity.reading import Pictures, read_pictures
from benchmarks.identity.rows import Bench, Job
from benchmarks.identity.samples import (
    Ask,
    draw_ask,
    embed_reference,
    list_asks,
    measure_points,
    sample_pictures,
    score_pictures,
)

from frisket.adapters.image.instantid import InstantIdModules
from frisket.inference.methods.identity.instantid.method import (
    InstantIdStrength,
    ReadInstantId,
    project_face,
)
from frisket.inference.methods.identity.instantid.pose import draw_pose
from frisket.inference.methods.identity.instantid.training import FaceRows, drop_faces, show_faces
from frisket.losses.base import weighted_mse

STEPS, DROPPED = 400, 0.1
LENGTH = 20.0  # of a raw embedding: the tiny embedder's units are made as long as raw ones are
SIZE = (SIDE, SIDE)
ROWS = {"off": 0.0, "on": 1.0}  # strength of IdentityNet


def draw_points(points: np.ndarray) -> torch.Tensor:
    """The key points of one picture as IdentityNet is shown them, 1 3 32 32."""
    return draw_pose(torch.from_numpy(points), SIZE, SIZE, "scaled")


def train_modules(folder: Path, bench: Bench, seed: int) -> None:
    """Teach projection, keys and values, and IdentityNet; nothing where they are there."""
    if folder.is_dir():
        return
    model, parts = bench.parts.denoiser, bench.parts
    assert model is not None
    lesson = load_lesson(bench.out / "adapters" / "lesson.safetensors", parts)
    points = np.stack([portrait.draw().keypoints for portrait in list_corpus()])
    torch.manual_seed(seed)
    modules = InstantIdModules.start_for_model(
        model, spatial=2, embedding=64, tokens=4, hidden=64
    ).requires_grad_(True)
    optimizer = torch.optim.AdamW(modules.parameters(), RATE, weight_decay=0.01)
    rng, generator = np.random.RandomState(seed), torch.Generator().manual_seed(seed)
    objective = FAMILY.objective("image")
    for step in range(STEPS):
        rows, shown = draw_batch(lesson, rng)
        pictures = torch.cat([draw_points(points[row]) for row in rows.tolist()])
        faces = drop_faces(FaceRows(LENGTH * lesson.units[shown], pictures), DROPPED, generator)
        t = torch.sigmoid(torch.randn(BATCH, generator=generator))
        clean = lesson.latents[rows]
        noise = torch.randn(clean.shape, generator=generator)
        noisy, target = objective.corrupt(clean, noise, t)
        with show_faces(FAMILY, model, modules, faces):
            prediction = FAMILY.predict(model, noisy, t, {"tokens": lesson.texts[rows]})
            loss = weighted_mse(prediction, target, lesson.weights[rows]).mean()
            for group in optimizer.param_groups:
                group["lr"] = RATE * min((step + 1) / WARM, 2 * (STEPS - step) / STEPS, 1.0)
            optimizer.zero_grad()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            print(f"InstantID {seed}: {step + 1} loss {loss.item():.4f}", flush=True)
    modules.save(folder)


def sample_posed(bench: Bench, modules: InstantIdModules, ask: Ask, strength: float) -> Pictures:
    """One picture of a person where the ask's drawn picture has the key points."""
    reference = draw_ask(ask).draw()
    face = project_face(
        modules, LENGTH * embed_reference(ask.person), torch.from_numpy(reference.keypoints), SIZE
    )
    read = ReadInstantId(
        modules, face, InstantIdStrength(identity_net=strength, strokes="scaled"), {}
    )
    method = read.build(FAMILY, bench.parts)
    return sample_pictures(bench.parts, [ask], [ask.write(looks=False)], method)


def run_points(bench: Bench, seed: int, name: str) -> Cell:
    """The held-out people with IdentityNet off or on; prompts do not say where to look."""
    asks = list_asks(seed, HELD_OUT)

    def work() -> tuple[Scores, Pictures]:
        folder = bench.out / "instantid" / str(seed)
        train_modules(folder, bench, seed)
        modules = InstantIdModules.from_folder(folder).requires_grad_(False)
        pictures = np.concatenate([sample_posed(bench, modules, ask, ROWS[name]) for ask in asks])
        wanted = np.stack([draw_ask(ask).draw().keypoints for ask in asks])
        points, _ = read_pictures(bench.reader, pictures)
        scores = score_pictures(bench.reader, pictures, asks)
        return {**scores, "points": measure_points(points, wanted)}, pictures

    return run_cell(bench.out, "points", name, seed, (), work)


def list_jobs(bench: Bench, seeds: list[int]) -> list[Job]:
    """Both rows, seed by seed."""
    return [
        ("points", name, seed, partial(run_points, bench, seed, name))
        for seed in seeds
        for name in ROWS
    ]
