"""An edited clip sampled: the clip's own condition, behind the edited first frame."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.config.editing.request import VideoEditRequest
from frisket.config.tree import Config
from frisket.disk.atomic import replacing
from frisket.disk.hashing import hash_file
from frisket.families.base import Conditioning, Family, Source
from frisket.inference.generate import Picture, sample
from frisket.inference.grids import save
from frisket.inference.methods.held_condition import HeldCondition
from frisket.inference.sample_specs import SampleSpec, build_spec, check
from frisket.masks.morphology import feather, grow
from frisket.media.geometry import Geometry
from frisket.progress import Progress
from frisket.runs.editing.plan import EditMaterial
from frisket.runs.editing.stages import FIRST, EditStage
from frisket.runs.sampling.sampler import embed_prompts, files_of, free, load_sampler, plan_of
from frisket.shapes import Frames
from frisket.training.memory.precision import tile

RECORD = "edit.json"


def build_edit_specs(
    request: VideoEditRequest, material: EditMaterial, family: Family, variant: str
) -> list[SampleSpec]:
    """One sample a seed; ValueError for what the model cannot make."""
    height, width = material.size
    options = request.sampling
    specs = [
        build_spec(
            family.variants[variant],
            material.prompt,
            seed,
            negative=options.negative,
            images=(request.output.absolute() / "data" / FIRST,),
            height=height,
            width=width,
            frames=len(material.frames),
            steps=options.sampling_steps,
            guidance=options.guidance,
        )
        for seed in options.seeds
    ]
    check(family, variant, specs)
    return specs


@torch.no_grad()
def build_condition(
    config: Config, family: Family, source: Source, material: EditMaterial
) -> Conditioning:
    """What the model is told of the clip: its kept pixels, behind the edited first frame.

    The same as in training but for that frame, on the CPU. VAE and image encoder come and go.
    """
    vae, vision = family.load_vae(source).to(source.device), family.load_vision(source)
    if config.memory.tile_vae:
        tile(vae)
    vision = None if vision is None else vision.to(source.device)
    geometry = Geometry(material.size, material.size, tuple(range(len(material.frames))))
    frames = torch.cat([material.first, material.frames[1:]])
    clip = geometry.pixels(frames)[None].to(source.device, source.dtype)
    conditioning = family.image_conditioning(vae, vision, clip, (), material.keep.to(source.device))
    shared = {name: value.cpu() for name, value in conditioning.items()}
    del vae, vision, conditioning
    free(source)
    return shared


def sample_edit(
    config: Config,
    family: Family,
    source: Source,
    material: EditMaterial,
    specs: Sequence[SampleSpec],
    lora: Path,
    *,
    strength: float = 1.0,
    progress: Progress = lambda *_: None,
) -> list[Picture]:
    """The edited clip once a seed, each as the model makes it."""
    embeddings = embed_prompts(family, source, specs)
    method = HeldCondition(family, build_condition(config, family, source, material))
    parts = load_sampler(family, source, plan_of(config), [(lora, strength)])
    device, tiled = torch.device(source.device), config.memory.tile_vae
    clips: list[Picture] = []
    for clip in sample(
        family, parts, embeddings, specs, batch=1, device=device, tile=tiled, method=method
    ):
        clips.append(clip)
        progress("sampling", len(clips), len(specs), {})
    return clips


def lay_back(
    sampled: Frames, original: Frames, edited: Float[Tensor, "F H W"], pixels: float
) -> Frames:
    """The sampled clip where it was edited, blended into the original around that.

    Beyond 2.5 * `pixels` from the edited region every pixel is the original's, within it the
    sampled one's. Levels 0 to 255.
    """
    # By more than the diagonal of the blur's square: the corners of a box are all sampled too.
    share = feather(grow(edited, 1.5 * pixels), pixels) if pixels else edited
    blend = share[..., None] * sampled.float() + (1 - share[..., None]) * original.float()
    return blend.round().clamp(0, 255).to(torch.uint8)


def write_edit(
    request: VideoEditRequest,
    material: EditMaterial,
    clips: Sequence[Picture],
    stage: EditStage,
    folder: Path,
) -> tuple[Path, ...]:
    """Write each sample into a folder, `seed-N.mp4`, and `edit.json`: what they are made with."""
    paths = []
    for clip in clips:
        frames = clip.frames
        if request.sampling.composite:
            frames = lay_back(frames, material.frames, material.edited, request.sampling.feather)
        paths.append(save(frames, folder / f"seed-{clip.spec.seed}", material.fps))
    record = _describe(request, material, clips, stage)
    with replacing(folder / RECORD) as draft:
        draft.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return tuple(paths)


def _describe(
    request: VideoEditRequest, material: EditMaterial, clips: Sequence[Picture], stage: EditStage
) -> Mapping[str, Any]:
    spec = clips[0].spec
    model = stage.config.model
    options = request.model_dump(mode="json", include={"region", "extent", "stages", "sampling"})
    files = {"mask": request.mask, "first": request.first} | {
        f"edited {number}": path for number, path in request.edited.items()
    }
    if request.clip.is_file():
        files["clip"] = request.clip
    return {
        "files": {
            name: {"path": str(path), "sha256": hash_file(path)}
            for name, path in files.items()
            if path.is_file()
        },
        "caption": material.caption,
        "prompt": material.prompt,
        "frames": len(material.frames),
        "height": spec.height,
        "width": spec.width,
        "steps": spec.steps,
        "guidance": spec.guidance,
        "edited share": round(material.edited.mean().item(), 4),
        "model": {"family": model.family, "variant": model.variant, "source": model.source},
        "lora": {str(file): hash_file(file) for file in files_of(stage.lora)},
        "options": options,
    }
