"""What InstantID is compared on: a tiny SDXL, its files, a face with key points, prompts.

All weights are drawn by their names, so that the authors' code and ours are given the same ones.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tests.adapters.image.scene import draw
from torch import Tensor, nn

from frisket.adapters.image.instantid import InstantIdModules
from frisket.faces.base import FaceEmbedding
from frisket.families.base import FAMILIES, Family, Parts
from frisket.inference.generate import clips
from frisket.inference.methods.base import Method
from frisket.inference.methods.plugin import METHODS, MethodRequest, ReferencePicture
from frisket.inference.sample_specs import SampleSpec, build_spec

FACE, HIDDEN = 512, 64
HEIGHT, WIDTH, STEPS, GUIDANCE, SEED = 64, 96, 4, 3.0, 5
PROMPT, NEGATIVE = "a red fox", "blurred"
# Of a picture of 96 x 144 pixels, which has the sample's aspect.
SOURCE = (96, 144)
KEYPOINTS = torch.tensor([[55.0, 40.0], [90.0, 37.5], [73.0, 55.0], [60.0, 70.5], [88.0, 69.0]])
# Strengths of attention and IdentityNet, and the share of the steps that the latter acts in.
RUNS: dict[str, tuple[float, float, float, float]] = {
    "both": (0.8, 0.7, 0.0, 1.0),
    "attention": (1.0, 0.0, 0.0, 1.0),
    "identity net": (0.0, 1.0, 0.0, 1.0),
    "some steps": (0.5, 1.0, 0.25, 0.75),
}


def fill_weights(module: nn.Module, name: str) -> nn.Module:
    """Weights by their names and in the measure of a network at its start; none is zero."""
    state = {}
    for key, value in module.state_dict().items():
        is_norm = value.ndim == 1 and key.endswith("weight")
        scale = value[0].numel() ** -0.5 if value.ndim > 1 else 0.2
        state[key] = draw(f"{name}/{key}", tuple(value.shape), scale) + is_norm
    module.load_state_dict(state)
    return module.eval()


@cache
def load_family() -> Family:
    return FAMILIES.load("stable_diffusion")


@cache
def build_parts(variant: str = "sdxl") -> Parts:
    """Nobody may change its weights."""
    parts = load_family().tiny(variant)
    for name, module in (("vae", parts.vae), ("unet", parts.denoiser)):
        assert module is not None
        fill_weights(module, name)
    return parts


@cache
def build_modules(variant: str = "sdxl") -> InstantIdModules:
    """InstantID with no weight at its start: nothing is zero. Nobody may change it."""
    denoiser: Any = build_parts(variant).denoiser
    modules = InstantIdModules.start_for_model(denoiser, hidden=HIDDEN, embedding=FACE)
    fill_weights(modules, "instantid")
    return modules.requires_grad_(False)


def save_modules(folder: Path, variant: str = "sdxl") -> Path:
    build_modules(variant).save(folder)
    return folder


def draw_face(name: str = "ada", width: int = FACE) -> FaceEmbedding:
    return FaceEmbedding(draw(f"face of {name}", (width,)))


def make_reference(name: str = "ada", **options: Any) -> ReferencePicture:
    picture = torch.zeros(*SOURCE, 3, dtype=torch.uint8)
    options = {"face": draw_face(name), "keypoints": KEYPOINTS, **options}
    return ReferencePicture(Path(f"{name}.jpg"), picture, **options)


def make_specs(count: int = 1, variant: str = "sdxl", **options: Any) -> list[SampleSpec]:
    card = load_family().variants[variant]
    options = {
        "height": HEIGHT, "width": WIDTH, "steps": STEPS, "guidance": GUIDANCE,
        "negative": NEGATIVE, **options,
    }  # fmt: skip
    return [build_spec(card, PROMPT, SEED + index, **options) for index in range(count)]


def draw_prompts(text: int = 32, pooled: int = 16, prompt: str = PROMPT) -> dict[Any, Any]:
    """Embeddings of the prompt and the negative one, drawn."""
    return {
        (words, ()): {
            "text": draw(f"text of {source}", (1, 77, text)),
            "pooled": draw(f"pooled {source}", (1, pooled)),
        }
        for words, source in ((PROMPT, prompt), (NEGATIVE, NEGATIVE))
    }


def build_method(folder: Path, **request: Any) -> Method:
    request = {"references": (make_reference(),), **request}
    family = load_family()
    plugin = METHODS.load("instantid")
    reading = plugin.read(MethodRequest(source=folder, **request), family, "sdxl")
    return reading.build(family, build_parts())


@torch.no_grad()
def sample_pictures(
    method: Method | None = None, specs: Sequence[SampleSpec] = (), prompt: str = PROMPT
) -> Tensor:
    """Pictures through the family's own pipeline, b 3 H W in [0, 1]."""
    specs = specs or make_specs()
    pictures = clips(
        load_family(), build_parts(), draw_prompts(prompt=prompt), specs, method=method
    )
    return torch.cat([picture for _, picture in pictures])


def lay_mask() -> Tensor:
    """Two thirds of the sample, 1 1 h w; no cell of any size that the UNet works at is cut."""
    mask = torch.ones(1, 1, HEIGHT // 8, WIDTH // 8)
    mask[..., : WIDTH // 24] = 0
    return mask


def thin_out(picture: Tensor) -> Tensor:
    """Every fourth pixel both ways: what is kept of a picture."""
    return picture[..., ::4, ::4]
