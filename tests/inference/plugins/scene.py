"""Tiny parts, files of every kind made for them, encoders and references."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from tests.adapters.image.scene import draw, randomise
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from frisket.adapters.image.attention import KeyValues
from frisket.adapters.image.files import write_image_adapter
from frisket.adapters.image.layouts import ImageAdapterFile, ImageAdapterKind, recognise
from frisket.adapters.image.numbering import list_places, number_layers
from frisket.adapters.image.projections import (
    FacePlusProjection,
    FaceProjection,
    PooledProjection,
    ResamplerProjection,
    TokenwiseProjection,
)
from frisket.adapters.image.timed import TimedProjection
from frisket.faces.base import FaceEmbedding
from frisket.families.base import FAMILIES, Family, Parts
from frisket.inference.generate import PromptEmbeddings, clips, embed
from frisket.inference.methods.base import Method
from frisket.inference.methods.plugin import METHODS, MethodRequest, ReferencePicture
from frisket.inference.sample_specs import SampleSpec, build_spec

WIDE = 64  # of texts: FaceID-Plus' heads have 64 channels
POOLED, STATES, FACE, SIDE = 24, 48, 512, 32
PROMPT, NEGATIVE = "a red fox on a stone wall", "blurry"
FACES = ("faceid", "faceid-plus", "faceid-plusv2")


@cache
def load_family(name: str) -> Family:
    return FAMILIES.load(name)


def build_parts(name: str, variant: str) -> Parts:
    """Tiny parts; UNets read texts of `WIDE` channels."""
    family = load_family(name)
    parts = family.tiny(variant)
    if name == "stable_diffusion":
        config = dict(parts.denoiser.config)  # type: ignore[union-attr,arg-type]
        torch.manual_seed(0)
        wide: Any = UNet2DConditionModel.from_config({**config, "cross_attention_dim": WIDE})
        parts.denoiser = wide.eval().requires_grad_(False)
    return parts


def get_width(denoiser: Any) -> int:
    """The width of tokens that diffusers gives an adapter of this model."""
    config = denoiser.config
    if "cross_attention_dim" in config and isinstance(denoiser, UNet2DConditionModel):
        return int(config.cross_attention_dim)
    if type(denoiser).__name__ == "SD3Transformer2DModel":
        return int(config.num_attention_heads * config.attention_head_dim)
    return int(getattr(config, "joint_attention_dim", 0) or 32)


PROJECTIONS: dict[str, Callable[[int], nn.Module]] = {
    "base": lambda width: PooledProjection(POOLED, width),
    "xlabs-flux": lambda width: PooledProjection(POOLED, width),
    "plus": lambda width: ResamplerProjection(STATES, width, tokens=5, hidden=32, inner=64),
    "full": lambda width: TokenwiseProjection(STATES, width),
    "faceid": lambda width: FaceProjection(FACE, width),
    "faceid-plus": lambda width: FacePlusProjection(FACE, width, states=STATES),
    "faceid-plusv2": lambda width: FacePlusProjection(FACE, width, states=STATES, shortcut=True),
    "instantx-sd3": lambda width: TimedProjection(
        STATES, width, tokens=5, hidden=32, inner=64, waves=16
    ),
}


def build_file(
    kind: ImageAdapterKind, family: Family, denoiser: nn.Module | None, *, own: bool = False
) -> ImageAdapterFile:
    """Random weights for a model's layers, strong enough to be seen; FaceID's with a LoRA."""
    assert denoiser is not None
    width, layers = get_width(denoiser), {}
    places = list_places(family, denoiser)
    for number, name in number_layers(family, denoiser).items():
        module: Any = places[name].module
        layers[number] = module.to_q.out_features
        head = layers[number] // module.heads
    values = randomise(KeyValues(width, layers, bias=kind == "xlabs-flux"), kind)
    tensors = {key: 3 * value for key, value in values.state_dict().items()}
    if kind == "instantx-sd3":
        for number in layers:
            for end, shape in {
                "norm_q.weight": (head,), "norm_k.weight": (head,), "norm_ip_k.weight": (head,),
                "norm_ip.linear.weight": (2 * width, 32), "norm_ip.linear.bias": (2 * width,),
            }.items():  # fmt: skip
                tensors[f"{number}.{end}"] = draw(f"{number}.{end}", shape)
    if kind in FACES and not own:
        tensors |= build_lora(denoiser)
    projection = randomise(PROJECTIONS[kind](width), kind.removesuffix("v2")).state_dict()
    return recognise(projection, tensors, kind=kind, family=family.name if own else "")


def build_lora(denoiser: Any) -> dict[str, Tensor]:
    """Factors of rank 3 on every attention of a UNet."""
    tensors = {}
    for number, name in enumerate(denoiser.attn_processors):
        attention = denoiser.get_submodule(name.removesuffix(".processor"))
        for part, path in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("out", "to_out.0")):
            layer = attention.get_submodule(path)
            start = f"{number}.to_{part}_lora"
            tensors[f"{start}.down.weight"] = draw(f"{start}.down", (3, layer.in_features), 0.3)
            tensors[f"{start}.up.weight"] = draw(f"{start}.up", (layer.out_features, 3), 0.3)
    return tensors


def write_file(folder: Path, file: ImageAdapterFile) -> Path:
    path = folder / f"ip-adapter-{file.kind}.{'safetensors' if file.family else 'bin'}"
    write_image_adapter(path, file)
    return path


@cache
def build_encoder(kind: str = "clip") -> nn.Module:
    torch.manual_seed(1)
    sizes = {
        "hidden_size": STATES, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "image_size": SIDE, "patch_size": 8,
    }  # fmt: skip
    if kind == "siglip":
        return SiglipVisionModel(SiglipVisionConfig(**sizes)).eval()
    return CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=POOLED, **sizes)).eval()


def write_encoder(folder: Path, kind: str = "clip") -> Path:
    build_encoder(kind).save_pretrained(folder / kind)  # type: ignore[operator]
    return folder / kind


def lay_pixels(frame: Tensor, kind: str = "clip") -> Tensor:
    """A picture as transformers' own processors lay it before the tiny encoders."""
    if kind == "siglip":
        processor: Any = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    else:
        processor = CLIPImageProcessorPil(size=SIDE, crop_size=SIDE)
    pixels: Tensor = processor(frame.numpy(), return_tensors="pt").pixel_values
    return pixels


def make_reference(seed: int = 0) -> ReferencePicture:
    """Soft noise with a face somewhere in it."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, 6, 5, generator=generator)
    picture = nn.functional.interpolate(small, size=(60, 50), mode="bilinear")[0]
    keypoints = torch.tensor([[15.0, 20], [33, 21], [25, 30], [17, 40], [32, 39]])
    face = FaceEmbedding(torch.randn(FACE, generator=generator))
    frame = picture.mul(255).round().to(torch.uint8).permute(1, 2, 0)
    return ReferencePicture(Path(f"ada{seed}.jpg"), frame.contiguous(), face, keypoints)


def make_spec(family: Family, variant: str, **changes: Any) -> SampleSpec:
    card = family.variants[variant]
    side, frames = card.grid.step, 1 + card.grid.temporal if card.video else 1
    sizes: dict[str, Any] = {
        "height": side, "width": 2 * side, "frames": frames, "steps": 2, "guidance": 3.0,
    }  # fmt: skip
    negative = NEGATIVE if card.negative else ""
    return build_spec(card, PROMPT, 3, negative=negative, **{**sizes, **changes})


def embed_texts(family: Family, parts: Parts, specs: Sequence[SampleSpec]) -> PromptEmbeddings:
    """As the family does, but as wide as the denoiser reads."""
    embeddings = embed(family, parts.variant, parts.text, specs)
    denoiser: Any = parts.denoiser
    if (
        not isinstance(denoiser, UNet2DConditionModel)
        or denoiser.config.cross_attention_dim != WIDE
    ):
        return embeddings
    return {
        key: {
            name: value
            if name.startswith("pooled")
            else value.repeat(1, 1, WIDE // value.shape[-1])
            for name, value in texts.items()
        }
        for key, texts in embeddings.items()
    }


def draw_clips(
    family: Family, parts: Parts, specs: Sequence[SampleSpec], method: Method | None = None
) -> list[Tensor]:
    """The samples before rounding, each F 3 H W."""
    embeddings = embed_texts(family, parts, specs)
    return [clip for _, clip in clips(family, parts, embeddings, specs, method=method)]


def build_method(plugin: str, family: Family, parts: Parts, file: Path, **changes: Any) -> Method:
    """A method the way a user gets it: the plugin reads, then builds."""
    request: dict[str, Any] = {"source": file, "references": (make_reference(),), **changes}
    read = METHODS.load(plugin).read(MethodRequest(**request), family, parts.variant)
    return read.build(family, parts)
