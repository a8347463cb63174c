"""Tiny projections, their weights and inputs: what our modules and the authors' are both given."""

import hashlib
from functools import cache

import torch
from torch import Tensor, nn

from frisket.adapters.image.attention import KeyValues
from frisket.adapters.image.layouts import ImageAdapterFile, recognise
from frisket.adapters.image.projections import (
    FacePlusProjection,
    FaceProjection,
    FaceResamplerProjection,
    PooledProjection,
    ResamplerProjection,
    TokenwiseProjection,
)
from frisket.adapters.image.timed import TimedProjection
from frisket.adapters.image.uniid import UniIdAdapterProjection, UniIdTextProjection

WIDTH = 64  # of tokens: FaceID-Plus' heads have 64 channels
CLIP, FACE = 24, 512
MAPS = ((64, 56), (128, 28), (256, 14), (512, 7))
LAYERS = {1: 32, 3: 64, 5: 32}


def draw(name: str, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    """Normal numbers that depend on a name and a shape alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "little")
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomise(module: nn.Module, name: str) -> nn.Module:
    """Weights by their names, none of them at a start that hides a mistake."""
    state = {}
    for key, value in module.state_dict().items():
        scale = value.shape[-1] ** -0.5 if value.ndim > 1 else 0.3
        state[key] = draw(f"{name}/{key}", tuple(value.shape), scale)
        if "norm" in key and key.endswith("weight") and value.ndim == 1:
            state[key] += 1
    module.load_state_dict(state)
    return module.eval()


BUILDERS = {
    "base": lambda: PooledProjection(CLIP, WIDTH),
    "plus": lambda: ResamplerProjection(CLIP, WIDTH, tokens=8, hidden=64, inner=128),
    "full": lambda: TokenwiseProjection(CLIP, WIDTH),
    "faceid": lambda: FaceProjection(FACE, WIDTH),
    "faceid-plus": lambda: FacePlusProjection(FACE, WIDTH, states=CLIP),
    "faceid-plusv2": lambda: FacePlusProjection(FACE, WIDTH, states=CLIP, shortcut=True),
    "instantid": lambda: FaceResamplerProjection(FACE, WIDTH, hidden=64, inner=128),
    "xlabs-flux": lambda: PooledProjection(CLIP, WIDTH),
    "instantx-sd3": lambda: TimedProjection(CLIP, WIDTH, tokens=8, hidden=64, inner=128, waves=32),
    "uniid-text": lambda: UniIdTextProjection((64, 128)),
    "uniid-adapter": lambda: UniIdAdapterProjection(WIDTH, tokens=5, hidden=64),
}


@cache
def build_projection(kind: str) -> nn.Module:
    """One of a kind; nobody may change its weights."""
    return randomise(BUILDERS[kind](), kind.removesuffix("v2"))


def build_projections() -> dict[str, nn.Module]:
    return {kind: build_projection(kind) for kind in BUILDERS}


def draw_inputs() -> dict[str, Tensor]:
    inputs = {
        "pooled": draw("pooled", (2, CLIP)),
        "states": draw("states", (2, 7, CLIP)),
        "face": draw("face", (2, FACE)),
        "timestep": torch.tensor([3.0, 700.0]),
    }
    inputs["unit"] = inputs["face"] / inputs["face"].norm(dim=-1, keepdim=True)
    for number, (channels, side) in enumerate(MAPS):
        inputs[f"map{number}"] = draw(f"map{number}", (2, channels, side, side))
    return inputs


def list_inputs(kind: str, inputs: dict[str, Tensor]) -> tuple[object, ...]:
    """What a projection of a kind is called with."""
    maps = [inputs[f"map{number}"] for number in range(len(MAPS))]
    return {
        "base": (inputs["pooled"],),
        "xlabs-flux": (inputs["pooled"],),
        "plus": (inputs["states"],),
        "full": (inputs["states"],),
        "faceid": (inputs["unit"],),
        "faceid-plus": (inputs["unit"], inputs["states"]),
        "faceid-plusv2": (inputs["unit"], inputs["states"], 0.7),
        "instantid": (inputs["face"],),
        "instantx-sd3": (inputs["states"], inputs["timestep"]),
        "uniid-text": (inputs["face"], maps[-1]),
        "uniid-adapter": (maps,),
    }[kind]


def build_layers(kind: str, layers: dict[int, int] | None = None) -> dict[str, Tensor]:
    """Attention tensors as a file of the kind has them."""
    layers = LAYERS if layers is None else layers
    if kind == "uniid-text":
        return {}
    if kind in ("xlabs-flux", "instantx-sd3"):
        layers = {0: 64, 1: 64}
    values = randomise(KeyValues(WIDTH, layers, bias=kind == "xlabs-flux"), "layers")
    tensors = dict(values.state_dict())
    if kind.startswith("faceid"):
        for number in range(2 * len(layers)):
            for part in ("q", "k", "v", "out"):
                start = f"{number}.to_{part}_lora"
                tensors[f"{start}.down.weight"] = draw(f"{start}.down", (4, 32))
                tensors[f"{start}.up.weight"] = draw(f"{start}.up", (32, 4))
    if kind == "instantx-sd3":
        for number in layers:
            for end, shape in {
                "norm_q.weight": (16,), "norm_k.weight": (16,), "norm_ip_k.weight": (16,),
                "norm_ip.linear.weight": (128, 64), "norm_ip.linear.bias": (128,),
            }.items():  # fmt: skip
                tensors[f"{number}.{end}"] = draw(f"{number}.{end}", shape)
    return tensors


def build_file(kind: str) -> ImageAdapterFile:
    projection = build_projection(kind).state_dict()
    return recognise(projection, build_layers(kind), kind=kind)
