"""Every row: trained by `frisket edit` or `frisket train`, sampled from the edited first frame."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.edit.cases import VARIANT, Clip, EditCase, lay_side_by_side, list_cases, write_case
from benchmarks.effects.cells import Cell, Scores, run_cell

from frisket.config.editing.request import EditSampling, VideoEditRequest
from frisket.config.load import check
from frisket.config.tree import Config
from frisket.families.base import Source
from frisket.families.models.pocket import FAMILY
from frisket.inference.generate import sample
from frisket.inference.methods.held_condition import HeldCondition
from frisket.pocket.judge import NAMES, label
from frisket.recipes.edit.edit import run_stage
from frisket.recipes.train import train
from frisket.runs.editing.plan import EditMaterial, read_material
from frisket.runs.editing.sampling import build_condition, build_edit_specs
from frisket.runs.editing.stages import build_stages, write_material
from frisket.runs.sampling.sampler import embed_prompts, load_sampler

PARTS = {"edit": 0.0, "moving": 2.0}  # pixels that the background scrolls a frame
CASES = {"edit": "cases", "moving": "moving"}  # folders of them
RANK, RATE, STEPS = 16, 1e-3, 100
SAMPLING_STEPS, GUIDANCE = 20, 1.0
# Row: whether a LoRA is trained, and whether the mask is part of the condition.
ROWS: Mapping[str, tuple[bool, bool]] = {
    "base": (False, False),
    "plain": (True, False),
    "edit": (True, True),
    "mask-only": (False, True),
}


def make_request(folder: Path, case: EditCase, name: str, seed: int) -> VideoEditRequest:
    """The edit of a case, as `frisket edit` would be asked."""
    sampling = EditSampling(seeds=(seed,), sampling_steps=SAMPLING_STEPS, guidance=GUIDANCE)
    return VideoEditRequest(
        clip=folder / "clip" / "clip.mkv",
        mask=folder / "mask.mkv",
        first=folder / "first.png",
        output=folder / name,
        caption=case.scene.caption,
        prompt=case.edited.caption,
        sampling=sampling,
    )


def make_config(seed: int, **sections: Any) -> Config:
    """What both LoRAs have in common."""
    tree: dict[str, Any] = {
        "model": {"family": "pocket", "variant": VARIANT, "device": "cpu"},
        "lora": {"rank": RANK},
        "optimizer": {"lr": RATE},
        "run": {"seed": seed, "threads": 1, "save_every": 0},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section if isinstance(section, dict) else section
    return Config.model_validate(tree)


def train_edit(request: VideoEditRequest, material: EditMaterial, seed: int) -> Path:
    """The LoRA of `frisket edit`'s first stage."""
    (stage,) = build_stages(make_config(seed), request, material)
    check(stage.config)
    run_stage(stage)
    return stage.lora


def train_plain(request: VideoEditRequest, seed: int) -> Path:
    """A LoRA of the clip as any image-to-video LoRA is: the first frame is seen, no mask."""
    run = {"output": request.output, "cache": request.output / "cache", "steps": STEPS, "batch": 1}
    data = [{"clips": request.clip.parent, "resolution": 32, "frames": 5}]
    config = make_config(seed, data=data, run=run)
    check(config)
    path = request.output / "lora.safetensors"
    if path.is_file():
        return path
    lora = train(config).lora
    assert lora is not None
    return lora


def make_clip(folder: Path, case: EditCase, name: str, seed: int) -> Clip:
    """A case under a row, F H W 3."""
    learns, masked = ROWS[name]
    request = make_request(folder, case, name, seed)
    material = read_material(request, FAMILY.variants[VARIANT])
    assert np.array_equal(material.edited.numpy() > 0.5, case.boxes)
    request.output.mkdir(parents=True, exist_ok=True)
    write_material(material, request.output / "data")
    loras: list[tuple[Path, float]] = []
    if learns:
        lora = train_edit(request, material, seed) if masked else train_plain(request, seed)
        loras = [(lora, 1.0)]
    source, config = Source(VARIANT), make_config(seed)
    specs = build_edit_specs(request, material, FAMILY, VARIANT)
    method = HeldCondition(FAMILY, build_condition(config, FAMILY, source, material))
    embeddings = embed_prompts(FAMILY, source, specs)
    parts = load_sampler(FAMILY, source, lora=loras)
    (picture,) = sample(
        FAMILY, parts, embeddings, specs, batch=1, method=method if masked else None
    )
    return np.asarray(picture.frames)


def measure_clip(clip: Clip, case: EditCase) -> Scores:
    """The protocol's metrics of one clip, frames 1 to 4."""
    from_source = np.abs(clip.astype(float) - case.source)[1:].mean(-1)
    from_truth = np.abs(clip.astype(float) - case.truth)[1:].mean(-1)
    outside = np.broadcast_to(~case.boxes.any(0), from_source.shape)
    boxes, subject = case.boxes[1:], case.covered[1:] >= 0.5
    recoloured = label(clip[1:]) == NAMES.index(case.edited.colour)
    return {
        "outside": from_source[outside].mean(),
        "box_ground": from_truth[boxes & ~subject].mean(),
        "subject": from_truth[subject].mean(),
        "colour": recoloured[subject].mean(),
    }


def run_row(out: Path, part: str, name: str, seed: int) -> Cell:
    """All cases of a seed under a row: the mean of each metric, unless that was done."""

    def work() -> tuple[Scores, Clip]:
        clips, scores = [], []
        torch.manual_seed(seed)
        for number, case in enumerate(list_cases(seed, PARTS[part])):
            folder = out / CASES[part] / f"{seed}-{number}"
            write_case(folder, case)
            clip = make_clip(folder, case, name, seed)
            scores.append(measure_clip(clip, case))
            clips += [case.source, case.truth, clip]
        means = {key: float(np.mean([score[key] for score in scores])) for key in scores[0]}
        return means, lay_side_by_side(clips)

    return run_cell(out, part, name, seed, (), work)
