"""ControlNets of Z-Image: residuals on the one sequence of image and text, after its layers."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import ZImageControlNetModel, ZImageControlNetPipeline
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from frisket.families.base import FAMILIES, Parts
from frisket.families.control.base import ControlNotUsable, ControlSupport, Residual, Residuals
from frisket.families.control.computing import (
    check_rows,
    compare_configs,
    drop_self,
    find_autocast,
    scale_rows,
    unwrap_net,
)
from frisket.families.control.loading import load_net
from frisket.families.control.starting import (
    build_net,
    build_tiny,
    check_source,
    count_layers,
    find_device,
)
from frisket.families.control.stock import (
    build_pipeline,
    check_vae,
    normalise_pixels,
    read_picture,
    share_net,
)
from frisket.shapes import Clip

LAYERS = "controlnet_block_samples"
SPACING = 5  # layers apart, of the public Fun-Controlnet-Union: 0, 5, ..., 25
CHANNELS = 16  # of the latents; nets of version 2 have more, which the pipeline fills with zeros
MATCHED_SETTINGS = ("dim", "n_heads", "n_kv_heads", "all_patch_size", "n_refiner_layers")
PADDING = ("x_pad_token", "cap_pad_token")
LENT = (
    *("t_scale", "t_embedder", "all_x_embedder", "cap_embedder", "rope_embedder"),
    *("noise_refiner", "context_refiner", *PADDING),
)


class ZImageControl:
    """ZImageControlNetModel, which works with the transformer's own embedders and refiners.

    They are lent to it for each call and taken back, so that what it saves, trains and counts is
    its own alone. A LoRA on the refiners reaches a frozen net's residuals, but gets no gradient
    through them.
    """

    reads: Literal["pixels", "latents"] = "latents"

    def refuse(self, variant: str) -> str:
        """Every variant takes one."""
        return ""

    def load(
        self, source: str | Path, variant: str, *, dtype: torch.dtype, device: str
    ) -> nn.Module:
        """A ZImageControlNetModel; unions of kinds are not told which, and load as any other."""
        net = load_net(ZImageControlNetModel, source, variant, dtype=dtype, device=device)
        channels = unwrap_net(net).config.control_in_dim
        if channels < CHANNELS:
            raise ControlNotUsable(
                f"{source} is not usable: its control_in_dim is {channels}, and Z-Image's latents"
                f" have {CHANNELS} channels"
            )
        _allow_gradients(net)
        return net

    def start(self, denoiser: nn.Module, *, layers: int | None = None) -> nn.Module:
        """Every fifth layer, or `layers` of them evenly spread, and the noise refiner; float32."""
        transformer: Any = denoiser
        check_source(transformer)
        layer_count = len(transformer.layers)
        count = count_layers(layers, -(-layer_count // SPACING), layer_count)
        config = {
            **transformer.config,
            "control_layers_places": [index * layer_count // count for index in range(count)],
            "control_refiner_layers_places": [],
            "control_in_dim": CHANNELS,
            "add_control_noise_refiner": None,
        }
        net = build_net(ZImageControlNetModel, config, find_device(transformer))
        _allow_gradients(net)
        for block, place in zip(net.control_layers, net.control_layers_places, strict=True):
            block.load_state_dict(transformer.layers[place].state_dict(), strict=False)
        net.control_noise_refiner.load_state_dict(transformer.noise_refiner.state_dict())
        return net

    def compare(self, net: nn.Module, denoiser: nn.Module) -> str:
        """By width and heads, and whether all its layers are there."""
        reason = compare_configs(net, denoiser, {name: name for name in MATCHED_SETTINGS})
        inner, transformer = unwrap_net(net), unwrap_net(denoiser)
        if not reason and max(inner.control_layers_places) >= len(transformer.layers):
            reason = (
                f"this ControlNet adds to layer {max(inner.control_layers_places)} and the model"
                f" has {len(transformer.layers)}: it was made for another model"
            )
        return reason

    def read(
        self, net: nn.Module, vae: nn.Module | None, control: Float[Tensor, "1 3 F H W"]
    ) -> Float[Tensor, "1 c _ _ _"]:
        """Latents as the family's `encode` gives, the posterior's mode."""
        read_picture(control)
        return FAMILIES.load("z_image").encode(check_vae(vae, "Z-Image"), normalise_pixels(control))

    def compute(
        self,
        net: nn.Module,
        denoiser: nn.Module,
        call: Mapping[str, Any],
        control: Float[Tensor, "r c f h w"],
        scale: Float[Tensor, " r"],
    ) -> Residuals:
        """One pass of the net with the denoiser's embedders.

        A residual has rows for the prompt's tokens and the padding too, after the picture's.
        A float32 net beside a denoiser in half precision is cast, as are the layers they share
        (autocast); ValueError for a net in half precision beside a float32 denoiser.
        """
        inner, sample, transformer = unwrap_net(net), call["x"], unwrap_net(denoiser)
        rows, size = len(sample), sample[0].shape[1:]
        check_rows(control, (rows, *size), "the control must have the clip's size")
        dtype = inner.control_layers[0].attention_norm1.weight.dtype
        like = sample[0]
        missing = inner.config.control_in_dim - control.shape[1]
        condition = pad(control, (0, 0, 0, 0, 0, 0, 0, missing)).to(like.device, dtype)
        patch = call["patch_size"]
        casting: AbstractContextManager[Any] = nullcontext()
        if dtype != like.dtype and find_autocast(like.device) is None:
            if like.dtype == torch.float32:
                raise ValueError(
                    f"the ControlNet is {dtype} and Z-Image's transformer float32: they share"
                    " layers, so load both in one precision"
                )
            casting = torch.autocast(like.device.type, like.dtype)
        with casting, lend_modules(inner, transformer):
            values = net(
                list(sample),
                call["t"],
                list(call["cap_feats"]),
                list(condition.unbind(0)),
                # Inside, as nets of version 2 scale what they add to their own refiner by it too.
                conditioning_scale=scale.to(like.device, like.dtype).view(-1, 1, 1),
                patch_size=patch,
                f_patch_size=call["f_patch_size"],
            )
        cells = (size[0] // call["f_patch_size"], size[1] // patch, size[2] // patch)
        return Residuals(
            {
                f"{LAYERS}.{index}": (
                    Residual(scale_rows(value, (scale != 0).float(), like), cells),
                )
                for index, value in values.items()
            }
        )

    def join(self, call: Mapping[str, Any], residuals: Residuals) -> dict[str, Any]:
        """A dict of residuals by the layer's number, on top of another net's."""
        output = drop_self(call)
        joined = dict(call[LAYERS] or {})
        for name, (residual,) in residuals.places.items():
            index = int(name.rsplit(".", 1)[1])
            before = joined.get(index)
            joined[index] = residual.value if before is None else before + residual.value
        output[LAYERS] = joined
        return output

    def pipeline(self, parts: Parts, net: nn.Module) -> Any:
        """ZImageControlNetPipeline with the family's scheduler."""
        return build_pipeline(
            ZImageControlNetPipeline,
            "z_image",
            parts,
            controlnet=share_net(net),  # it keeps the transformer's modules for good
        )

    def call(self, control: Clip, scale: float) -> dict[str, Any]:
        """The picture in [-1, 1]: the pipeline leaves tensors as they are."""
        return {
            "control_image": normalise_pixels(read_picture(control)),
            "controlnet_conditioning_scale": float(scale),
        }

    def tiny(self, denoiser: nn.Module) -> nn.Module:
        """`start` with its zero layers moved."""
        return build_tiny(partial(self.start, denoiser))


@contextmanager
def lend_modules(net: Any, transformer: Any) -> Iterator[None]:
    """Inside, a net has the transformer's embedders and refiners; after, none of them.

    Padding tokens are lent in what autocast computes in: upstream writes them into its outputs.
    """
    ZImageControlNetModel.from_transformer(net, transformer)
    dtype = find_autocast(transformer.x_pad_token.device)
    if dtype is not None:
        for name in PADDING:
            token = getattr(transformer, name).detach().to(dtype)
            setattr(net, name, nn.Parameter(token, requires_grad=False))
    try:
        yield
    finally:
        for name in LENT:
            setattr(net, name, None)


def _allow_gradients(net: Any) -> None:
    """The class says that it can checkpoint, and lacks what its forward pass asks then."""
    if not hasattr(net, "gradient_checkpointing"):
        net.gradient_checkpointing = False


CONTROL: ControlSupport = ZImageControl()
