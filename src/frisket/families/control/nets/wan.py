"""VACE beside Wan: hints after the blocks of a plain text-to-video transformer."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import WanVACEPipeline
from jaxtyping import Float
from torch import Tensor, nn

from frisket.families.base import FAMILIES, Parts
from frisket.families.control.base import ControlSupport, Residual, Residuals
from frisket.families.control.computing import (
    check_rows,
    compare_configs,
    drop_self,
    scale_rows,
    unwrap_net,
)
from frisket.families.control.starting import (
    build_tiny,
    check_source,
    count_layers,
    find_device,
)
from frisket.families.control.stock import build_pipeline, check_vae, normalise_pixels
from frisket.families.control.vace.files import assemble, load_vace
from frisket.families.control.vace.net import MASK, start_net
from frisket.families.control.vace.places import KEY, make_places
from frisket.families.experts import Experts, experts_of
from frisket.shapes import Clip

PREFIX = "blocks"
MATCHED_SETTINGS = ("num_attention_heads", "attention_head_dim", "ffn_dim", "patch_size")


class WanControl:
    """VACE's context blocks (arXiv 2503.07598) as a net beside a WanTransformer3DModel.

    A LoRA is then trained and saved on the plain transformer, whose keys the context blocks leave
    as they are. A control clip is VACE's `video` under a mask of ones: all of it reactive, nothing
    to keep.
    """

    reads: Literal["pixels", "latents"] = "latents"

    def refuse(self, variant: str) -> str:
        """VACE was made for the text-to-video models of Wan 2.1's VAE."""
        if "ti2v" in variant:
            return (
                "VACE was made for Wan 2.1's VAE, and TI2V-5B has another: leave [control] out, or"
                ' set model.variant = "2.1-t2v-1.3b"'
            )
        if "i2v" in variant:
            sibling = variant.replace("i2v", "t2v") if variant.startswith("2.2") else "2.1-t2v-14b"
            return (
                "VACE was made for text-to-video models, which read no first frame: leave [control]"
                f' out, or set model.variant = "{sibling}"'
            )
        return ""

    def load(
        self, source: str | Path, variant: str, *, dtype: torch.dtype, device: str
    ) -> nn.Module:
        """The context blocks of Wan2.1-VACE's `transformer/`, or of a folder saved here."""
        return load_vace(source, variant, dtype=dtype, device=device)

    def start(self, denoiser: nn.Module, *, layers: int | None = None) -> nn.Module:
        """Every second block, or `layers` of them, float32; ValueError for two experts at once."""
        models = experts_of(denoiser)
        if len(models) > 1:
            raise ValueError(
                "VACE is started from one transformer: set model.experts to the one it is for"
            )
        (transformer,) = models.values()
        check_source(transformer)
        blocks: Any = transformer.blocks
        if layers is not None:
            count_layers(layers, layers, len(blocks))
        return start_net(transformer, layers).to(find_device(transformer))

    def compare(self, net: nn.Module, denoiser: nn.Module) -> str:
        """By heads and widths, and whether all its layers are there."""
        reason = compare_configs(net, denoiser, {name: name for name in MATCHED_SETTINGS})
        if reason:
            return reason
        last, block_count = (
            max(unwrap_net(net).config.vace_layers),
            len(unwrap_net(denoiser).blocks),
        )
        if last >= block_count:
            return (
                f"this VACE adds to block {last} and the model has {block_count}: it was made for"
                " another model. Check control.source and model.variant"
            )
        return ""

    @torch.no_grad()
    def read(
        self, net: nn.Module, vae: nn.Module | None, control: Float[Tensor, "1 3 F H W"]
    ) -> Float[Tensor, "1 c _ _ _"]:
        """Latents of a grey clip and of the control clip, 16 channels each.

        What WanVACEPipeline prepares of `video` without a mask: nothing is inactive (grey, 0 in
        [-1, 1]) and all is reactive. The mask's 64 channels of ones are left to `compute`.
        """
        encode = FAMILIES.load("wan").encode
        reactive = encode(check_vae(vae, "VACE"), normalise_pixels(control))
        inactive = encode(check_vae(vae, "VACE"), torch.zeros_like(control))
        return torch.cat([inactive, reactive], 1)

    def compute(
        self,
        net: nn.Module,
        denoiser: nn.Module,
        call: Mapping[str, Any],
        control: Float[Tensor, "r c f h w"],
        scale: Float[Tensor, " r"],
    ) -> Residuals:
        """The hints for a call's own latents, noise level and text, by the transformer's embedders.

        ValueError where tokens have noise levels of their own.
        """
        inner, transformer, sample = unwrap_net(net), unwrap_net(denoiser), call["hidden_states"]
        check_rows(control, (len(sample), *sample.shape[2:]), "the control must be as the clip is")
        if torch.as_tensor(call["timestep"]).ndim > 1:
            raise ValueError("VACE is told one noise level a clip, and this call has one a token")
        dtype = inner.vace_patch_embedding.weight.dtype
        tokens = transformer.patch_embedding(sample).flatten(2).transpose(1, 2)
        _, time, text, _ = transformer.condition_embedder(
            call["timestep"], call["encoder_hidden_states"], None
        )
        hints = net(
            tokens.to(dtype),
            text.to(dtype),
            add_mask(control).to(sample.device, dtype),
            time.unflatten(1, (6, -1)),
            transformer.rope(sample),
        )
        steps = inner.config.patch_size
        cells = tuple(size // step for size, step in zip(sample.shape[2:], steps, strict=True))
        frames, rows, columns = cells
        return Residuals(
            {
                f"{PREFIX}.{index}": (
                    Residual(scale_rows(hint, scale, sample), (frames, rows, columns)),
                )
                for index, hint in zip(inner.config.vace_layers, hints, strict=True)
            }
        )

    def join(self, call: Mapping[str, Any], residuals: Residuals) -> dict[str, Any]:
        """Residuals by the block's number in `attention_kwargs`, where `prepare` looks for them."""
        options = dict(call["attention_kwargs"] or {})
        joined = dict(options.get(KEY, {}))
        for name, (residual,) in residuals.places.items():
            index = int(name.rsplit(".", 1)[1])
            before = joined.get(index)
            joined[index] = residual.value if before is None else before + residual.value
        return {**drop_self(call), "attention_kwargs": {**options, KEY: joined}}

    def prepare(self, denoiser: nn.Module) -> None:
        """Hooks that add residuals after the blocks of a plain transformer."""
        make_places(denoiser)

    def pipeline(self, parts: Parts, net: nn.Module) -> Any:
        """WanVACEPipeline over a VACE transformer put together of denoiser and net.

        Saved from there (`transformer.save_pretrained`) it is a folder as the released ones.
        """
        denoiser: Any = parts.denoiser
        models = {"transformer": denoiser, "transformer_2": None}
        if isinstance(denoiser, Experts):
            high, low = (denoiser.experts[name] for name in ("high", "low"))
            models = {"transformer": high, "transformer_2": low}
        transformers = {name: model and assemble(model, net) for name, model in models.items()}
        return build_pipeline(WanVACEPipeline, "wan", parts, **transformers)

    def call(self, control: Clip, scale: float) -> dict[str, Any]:
        """The clip in [0, 1], frames before channels, as the pipeline's video processor reads."""
        return {"video": control.transpose(1, 2), "conditioning_scale": float(scale)}

    def tiny(self, denoiser: nn.Module) -> nn.Module:
        """`start` with its zero layers moved."""
        return build_tiny(partial(self.start, denoiser))


def add_mask(latents: Float[Tensor, "r c f h w"]) -> Float[Tensor, "r C f h w"]:
    """VACE's context of a control clip: its latents, and a mask that says all of it is reactive."""
    mask = torch.ones_like(latents[:, :1]).expand(-1, MASK, -1, -1, -1)
    return torch.cat([latents, mask], 1)


CONTROL: ControlSupport = WanControl()
