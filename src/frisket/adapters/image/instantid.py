"""InstantID (arXiv 2401.07519) as modules and as its public folder.

`ip-adapter.bin`: the resampler of a face's raw embedding, and the keys and values of its tokens.
`ControlNetModel/`: IdentityNet, a ControlNet of diffusers that reads the same tokens in place of
the prompt's and key points as its picture.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from frisket.adapters import files
from frisket.adapters.image.adapter import ImageAdapter
from frisket.adapters.image.files import read_image_adapter, write_image_adapter
from frisket.adapters.image.layouts import FACE_WIDTH
from frisket.adapters.image.projections import FaceResamplerProjection
from frisket.adapters.metadata import show_text
from frisket.adapters.spec import AdapterMismatch
from frisket.disk.folders import replace_folder

ADAPTER, NET = "ip-adapter.bin", "ControlNetModel"
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
PUBLISHED = "InstantX/InstantID on Hugging Face"
# Of the public files; a head has 64 channels.
TOKENS, HIDDEN = 16, 1280
PICTURE_CHANNELS = (16, 32, 96, 256)  # of the layers that read the key points, halving all but once
# What of a UNet's configuration decides the shapes of residuals, and what its calls bring along.
ALIKE = (
    "in_channels",
    "block_out_channels",
    "down_block_types",
    "layers_per_block",
    "cross_attention_dim",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
)
# How deep a configuration may make a net, and what diffusers raises for one that makes no sense.
DEPTHS = ("layers_per_block", "transformer_layers_per_block")
BROKEN = (
    *(TypeError, ValueError, LookupError, RuntimeError),
    *(AttributeError, ArithmeticError, AssertionError),
)


class InstantIdModules(nn.Module):
    """What InstantID trains: projection, keys and values of the face's tokens, and IdentityNet.

    `adapter` is the `instantid` kind of image adapter, `identity_net` a ControlNetModel. All its
    parameters are trained, nothing of the UNet.
    """

    def __init__(self, adapter: ImageAdapter, identity_net: ControlNetModel) -> None:
        """AdapterMismatch where the two are not of one kind: tokens of another width."""
        super().__init__()
        width, reads = adapter.image_proj.width, identity_net.config.cross_attention_dim
        if width != reads:
            raise AdapterMismatch(
                f"the face's tokens have {width} channels and IdentityNet reads {reads}: the two"
                " are of different models"
            )
        self.adapter = adapter
        self.identity_net = identity_net

    @classmethod
    def start_for_model(
        cls,
        model: nn.Module,
        *,
        spatial: int = 8,
        embedding: int = FACE_WIDTH,
        tokens: int = TOKENS,
        hidden: int = HIDDEN,
    ) -> "InstantIdModules":
        """New modules for a bare UNet, as the paper begins them.

        Keys and values begin as the text's, so that tokens act from the first step on; IdentityNet
        as the UNet's way down with its last convolutions at zero (ControlNet, arXiv 2302.05543,
        section 3.1), so that its residuals are 0. `spatial` is how many pixels a latent cell has on
        a side, `embedding` the embedder's width, `hidden` the resampler's (a multiple of 64).
        Raises as `start_identity_net`.
        """
        identity_net = start_identity_net(model, spatial)
        width = identity_net.config.cross_attention_dim
        projection = FaceResamplerProjection(embedding, width, tokens=tokens, hidden=hidden)
        return cls(ImageAdapter.start_for_model("instantid", projection, model), identity_net)

    @classmethod
    def from_folder(cls, folder: Path) -> "InstantIdModules":
        """The modules of a public folder; raises as `read_identity_net` and `read_image_adapter`.

        A folder without `ip-adapter.bin` may have `ip-adapter.safetensors`.
        """
        folder = Path(folder)
        identity_net = read_identity_net(folder / NET)
        file = read_image_adapter(find_adapter(folder), "instantid")
        try:
            return cls(ImageAdapter.from_file(file), identity_net)
        except AdapterMismatch as error:
            raise AdapterMismatch(f"{folder}: {error}") from error

    def save(self, folder: Path) -> None:
        """Write the public folder, all of it or nothing, as the authors' code reads it.

        Raises CannotWrite.
        """
        with replace_folder(Path(folder)) as draft:
            write_image_adapter(draft / ADAPTER, self.adapter.to_file())
            self.identity_net.save_pretrained(draft / NET, safe_serialization=True)


def find_adapter(folder: Path) -> Path:
    """The adapter's file of a folder; FileNotFoundError says where the folder is published."""
    places = [folder / ADAPTER, (folder / ADAPTER).with_suffix(".safetensors")]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(report_missing(places[0]))


def report_missing(path: Path) -> str:
    """What is said of a file that InstantID's folder has, and this one has not."""
    return f"there is no {path}, which InstantID's folder has; it is published at {PUBLISHED}"


def start_identity_net(model: nn.Module, spatial: int = 8) -> ControlNetModel:
    """IdentityNet at its start: a UNet's way down and its middle, and output 0 everywhere.

    `model` is the bare UNet, before a LoRA or an adapter of diffusers is on it; AdapterMismatch
    where one is, for another denoiser, and where `spatial` (pixels of a latent cell on a side) is
    no power of 2 up to 8.
    """
    if not isinstance(model, UNet2DConditionModel):
        raise AdapterMismatch(f"IdentityNet is made from a UNet, not from a {type(model).__name__}")
    if spatial not in (1, 2, 4, 8):
        raise AdapterMismatch(
            f"IdentityNet's picture is 1, 2, 4 or 8 times the latent's, not {spatial}"
        )
    if model.encoder_hid_proj is not None or any(".lora_" in name for name in model.state_dict()):
        raise AdapterMismatch(
            "this UNet has an adapter on it: make IdentityNet before adapters are attached"
        )
    channels = PICTURE_CHANNELS[: 1 + int(math.log2(spatial))]
    net: ControlNetModel = ControlNetModel.from_unet(
        model, conditioning_embedding_out_channels=channels
    )
    return net.requires_grad_(True)


def read_identity_net(folder: Path) -> ControlNetModel:
    """IdentityNet from its folder, in the file's dtype, frozen and in eval mode.

    FileNotFoundError where config.json or the safetensors file is missing; AdapterMismatch for a
    folder of another model, and names the tensor that is missing, left over or of another shape.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(report_missing(folder / name))
    config = _read_config(folder / CONFIG)
    shapes, _ = files.header(folder / WEIGHTS)
    blank = _build_blank(folder / CONFIG, config, len(shapes))
    _compare_shapes(folder / WEIGHTS, blank.state_dict(), shapes)
    tensors, _ = files.tensors(folder / WEIGHTS)
    blank.load_state_dict(tensors, assign=True)
    return blank.requires_grad_(False).eval()


def _build_blank(path: Path, config: Mapping[str, Any], tensors: int) -> ControlNetModel:
    """A ControlNet without memory; AdapterMismatch where a stranger's configuration makes none."""
    for name in DEPTHS:
        depths = config.get(name, 1)
        depths = depths if isinstance(depths, list) else [depths]
        if any(isinstance(depth, int) and depth > tensors for depth in depths):
            raise AdapterMismatch(f"{path}: {name} is {depths}, more layers than there are tensors")
    try:
        with torch.device("meta"):
            net: ControlNetModel = ControlNetModel.from_config(dict(config))
    except BROKEN as error:
        raise AdapterMismatch(f"{path} makes no ControlNet: {error}") from error
    return net


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise AdapterMismatch(f"{path} is no JSON: {error}") from error
    name = config.get("_class_name") if isinstance(config, dict) else None
    if name != ControlNetModel.__name__:
        class_name = show_text(str(name), 60)
        raise AdapterMismatch(f"{path} is of {class_name}; IdentityNet is a ControlNetModel")
    return dict(config)


def _compare_shapes(
    path: Path, blank: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    if missing := sorted(blank.keys() - shapes.keys()):
        raise AdapterMismatch(f"{path} lacks {missing[0]} ({len(missing)} tensors in all)")
    if more := sorted(shapes.keys() - blank.keys()):
        raise AdapterMismatch(
            f"{path} has {show_text(more[0], 60)!r}, for which its {CONFIG} has no place"
        )
    for key, value in blank.items():
        if tuple(value.shape) != shapes[key]:
            raise AdapterMismatch(
                f"{path}: {key} is {shapes[key]}, by its {CONFIG} it would be {tuple(value.shape)}"
            )


def compare_nets(net: ControlNetModel, model: UNet2DConditionModel) -> str:
    """How IdentityNet and a UNet differ where they must agree; empty where they fit."""
    for name in ALIKE:
        net_value, model_value = (_list_tuple(module.config.get(name)) for module in (net, model))
        if net_value != model_value:
            return f"{name} is {net_value} in IdentityNet and {model_value} in the model"
    return ""


def _list_tuple(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
