"""The MaskDiT family: transformers trained from scratch on a part of each picture's patches.

There are no released weights: a run begins from random ones, or from the folder of an earlier run,
and trains all of them. See docs/maskdit.md.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from torch import nn

from frisket.attention.base import AttentionLayer
from frisket.attention.tokens import Spans
from frisket.families import tiny, weights
from frisket.families.base import Conditioning, Family, Parts, References, Source, Variant
from frisket.families.defaults import Standard, decode_kl, encode_kl
from frisket.families.key_map import Names
from frisket.families.models.maskdit.attention import MaskDiTRoutes, MaskDiTStreams, list_layers
from frisket.families.models.maskdit.model import MaskDiTModel
from frisket.families.models.maskdit.pipeline import MaskDiTPipeline
from frisket.families.models.maskdit.predict import predict_clean
from frisket.families.presets import presets
from frisket.families.routes import TokenRoutes
from frisket.families.shared.pocket.suggestions import SUGGESTIONS
from frisket.families.shared.pocket.text import PocketText, embed, find_spans
from frisket.families.shared.pocket.vae import PocketVae
from frisket.grid import LatentGrid
from frisket.objectives.edm import LEVEL_MEAN, LEVEL_STD, Edm
from frisket.objectives.kinds import LevelWeighting
from frisket.objectives.timesteps import TimestepSampler
from frisket.shapes import Clip, Latents, PerSample

SEED = 0  # of the random weights that a run begins from
FRESH = "none: random weights"  # what stands for a hub id where there is none
VAE = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # whose vae/ the variant sd takes
SMALL = {
    **{"width": 96, "depth": 6, "heads": 4},
    **{"decoder_width": 48, "decoder_depth": 2, "decoder_heads": 4},
}
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "pocket": {"in_channels": 12, **SMALL},
    "pocket-clip": {"in_channels": 48, "frames": True, **SMALL},
    "sd": {"in_channels": 4, "width": 768, "depth": 12, "heads": 12},  # DiT-B/2
}
TINY = {
    **{"width": 32, "depth": 3, "heads": 2},
    **{"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2},
}
POCKET = Variant(
    repo=FRESH,
    quantises=False,
    grid=LatentGrid(channels=12, spatial=2, patch=2),
    height=32,
    width=32,
    steps=20,
    guidance=1.5,
    mean=LEVEL_MEAN,
    std=LEVEL_STD,
)


class MaskDiT(Standard):
    """The family; see `frisket.families.base.Family` for the contract.

    `pocket` and `pocket-clip` are of the pocket world, 1.5 M parameters, latents of folded pixels;
    `sd` has the shape of DiT-B/2 on the latents of Stable Diffusion 1.5's VAE.
    """

    name = "maskdit"
    suggestions = SUGGESTIONS
    streams = MaskDiTStreams()
    routes: TokenRoutes | None = MaskDiTRoutes()
    leaves_out_tokens = True
    lora_prefix = "transformer"
    denoiser_folder = "denoiser"
    names = Names()  # it has no other release than ours
    lora_presets: Mapping[str, tuple[str, ...]] = presets("attn", mlp="ff", blocks="blocks")
    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "ff.0", "ff.2")
    variants: Mapping[str, Variant] = {
        "pocket": POCKET,
        "pocket-clip": Variant(
            repo=FRESH,
            quantises=False,
            grid=LatentGrid(channels=48, spatial=2, temporal=4, patch=2),
            frames=5,
            height=32,
            width=32,
            fps=8.0,
            steps=20,
            guidance=1.5,
            mean=LEVEL_MEAN,
            std=LEVEL_STD,
        ),
        "sd": Variant(
            repo=FRESH,
            quantises=False,
            grid=LatentGrid(channels=4, spatial=8, patch=2),
            height=256,
            width=256,
            guidance=1.5,
            mean=LEVEL_MEAN,
            std=LEVEL_STD,
        ),
    }

    def objective(
        self,
        variant: str,
        timesteps: TimestepSampler | None = None,
        *,
        weighting: LevelWeighting = "none",
        min_snr: float = 0.0,
    ) -> Edm:
        """EDM, whose weight of a noise level is its own."""
        if weighting != "none" or min_snr:
            raise ValueError(
                "timesteps: weighting and min_snr are for models that predict a flow, epsilon or v;"
                " maskdit weighs noise levels as EDM does: leave them out"
            )
        card = self.variants[variant]
        return Edm(timesteps or TimestepSampler(card.density, mean=card.mean, std=card.std))

    def load_vae(self, source: Source) -> nn.Module:
        """The folding of pixels, which has no weights; for `sd` an AutoencoderKL.

        That lies in vae/ of the source, or of Stable Diffusion 1.5 where there is no source.
        """
        if source.variant != "sd":
            return PocketVae(self.variants[source.variant].grid.temporal)
        options = {"torch_dtype": source.dtype, "use_safetensors": True}
        vae = weights.load(AutoencoderKL, source, VAE, "vae", **options)
        name, kind = source.path or VAE, "a VAE of maskdit sd"
        weights.expect(vae.config, {"latent_channels": 4}, where=name, what=kind)
        return weights.freeze(vae, source)

    def load_text(self, source: Source) -> nn.Module:
        """The text encoder, whose vectors come from the words: nothing is read from the source."""
        return PocketText()

    def load_tokenizer(self, source: Source) -> nn.Module:
        """As `load_text`: nothing is read from the source."""
        return PocketText()

    def load_denoiser(self, source: Source) -> nn.Module:
        """Random weights, the same each time; or those saved under `source.path`/denoiser."""
        if not source.path:
            net: Any = self._build(SHAPES[source.variant], source.device)
            for value in net.parameters():
                value.data = value.data.to(source.dtype)
            return weights.freeze(net, source)
        options = {"torch_dtype": source.dtype, "use_safetensors": True}
        net = weights.load(MaskDiTModel, source, FRESH, "denoiser", **options)
        channels = {"in_channels": self.variants[source.variant].grid.channels}
        kind = f"a model of maskdit {source.variant}"
        weights.expect(net.config, channels, where=source.path, what=kind)
        return weights.freeze(net, source)

    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """Folded; or the posterior mode times the VAE's scaling factor."""
        if isinstance(vae, PocketVae):
            return vae.encode(clip)
        kl: Any = vae
        return encode_kl(vae, clip, kl.config.scaling_factor)

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The inverse of `encode`."""
        if isinstance(vae, PocketVae):
            return vae.decode(latents)
        kl: Any = vae
        return decode_kl(vae, latents, kl.config.scaling_factor)

    def embed(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> Conditioning:
        """`tokens` b 12 64."""
        return {"tokens": embed(prompts)}

    def read_spans(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> list[Spans]:
        """12 slots a prompt; what is dropped between two words counts to the later one."""
        return [find_spans(prompt) for prompt in prompts]

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The clean latents; of tokens that are left out what the decoder makes of the others."""
        return predict_clean(denoiser, noisy, t, conditioning["tokens"])

    def list_attention_layers(self, denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
        """The cross-attention of the encoder's blocks."""
        return list_layers(denoiser)

    def pipeline(self, parts: Parts) -> Any:
        """A diffusers pipeline over the denoiser, and over a VAE that has weights."""
        vae = None if isinstance(parts.vae, PocketVae) else parts.vae
        return MaskDiTPipeline(parts.denoiser, FlowMatchEulerDiscreteScheduler(), vae)

    def call(
        self,
        variant: str,
        positive: Conditioning,
        negative: Conditioning | None,
        *,
        guidance: float,
        references: References = (),
    ) -> dict[str, Any]:
        """Embeddings by MaskDiTPipeline's names."""
        return {
            "prompt_embeds": positive["tokens"],
            "negative_prompt_embeds": None if negative is None else negative["tokens"],
            "guidance_scale": guidance,
        }

    def tiny(self, variant: str) -> Parts:
        """A narrower network, none of whose layers is silent as in a fresh one."""
        net = self._build({**SHAPES[variant], **TINY}, "cpu")
        with tiny.seed_torch(1), torch.no_grad():
            for value in net.parameters():
                value.add_(0.05 * torch.randn_like(value))
        if variant != "sd":
            vae: Any = PocketVae(self.variants[variant].grid.temporal)
        else:
            with tiny.seed_torch():
                vae = tiny.kl_vae(AutoencoderKL, 4)
        tiny.quiet(net, vae)
        return Parts(variant, vae, PocketText(), net)

    def save(self, parts: Parts, folder: Path) -> None:
        """Write the denoiser under `folder`/denoiser, and a VAE that has weights beside it."""
        if not isinstance(parts.denoiser, MaskDiTModel):
            raise ValueError(f"nothing to save in {folder}: the denoiser is not loaded")
        parts.denoiser.save_pretrained(folder / "denoiser")
        if isinstance(parts.vae, AutoencoderKL):
            parts.vae.save_pretrained(folder / "vae")

    def _build(self, shape: Mapping[str, Any], device: str) -> Any:
        with tiny.seed_torch(SEED), torch.device(weights.SHAPES if device == "meta" else "cpu"):
            return MaskDiTModel(**shape)


FAMILY: Family = MaskDiT()
