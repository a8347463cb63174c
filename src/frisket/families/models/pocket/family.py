"""The pocket family: small models of 32-pixel pictures and clips that ship with the package.

UNets of 4 M parameters, one for pictures and one for clips, and a transformer for pictures (`dit`).

The real thing in small: rectified flow, cross-attention to a caption, classifier-free guidance,
peft adapters, a diffusers pipeline, causal latent frames. Its VAE folds 2 x 2 pixels (and 4
frames) into channels and loses nothing, its text encoder is a frozen word embedding, so that
everything a job does runs on a laptop offline.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    UNet2DConditionModel,
    WanTransformer3DModel,
)
from PIL import Image
from torch import nn

from frisket.attention.base import AttentionLayer
from frisket.attention.tokens import Spans
from frisket.families.base import (
    Conditioning,
    Family,
    Parts,
    References,
    Source,
    Variant,
)
from frisket.families.defaults import Standard
from frisket.families.key_map import Names
from frisket.families.models.pocket import first_frame
from frisket.families.models.pocket.first_frame import FirstFrameVision, mark_visible, show_clip
from frisket.families.models.pocket.pipeline import PocketPipeline, predict_latents
from frisket.families.models.pocket.routes import PocketRoutes
from frisket.families.models.pocket.streams import PocketStreams
from frisket.families.models.pocket.transformer import draw_transformer, is_transformer
from frisket.families.models.pocket.unet import draw_net, is_for_clips
from frisket.families.models.pocket.weights import build_denoiser, load_saved, read_packaged
from frisket.families.presets import presets
from frisket.families.shared.attention.cross import list_unet_layers, list_wan_layers
from frisket.families.shared.first_frames import lay_first
from frisket.families.shared.pocket.suggestions import SUGGESTIONS
from frisket.families.shared.pocket.text import PocketText, embed, find_spans
from frisket.families.shared.pocket.vae import PocketVae
from frisket.grid import LatentGrid
from frisket.objectives.base import Objective
from frisket.objectives.kinds import LevelWeighting
from frisket.objectives.timesteps import TimestepSampler
from frisket.shapes import Clip, Latents, PerSample, Plane

TRANSFORMER_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
LEAST = 0.1  # smallest t the clip model trains at: its velocity is an error divided by t


class Pocket(Standard):
    """The family; see `frisket.families.base.Family` for the contract."""

    name = "pocket"
    suggestions = SUGGESTIONS
    streams = PocketStreams()
    routes = PocketRoutes()
    lora_prefix = "unet"
    denoiser_folder = "denoiser"
    names = Names()  # it has no other release than ours
    lora_conv: tuple[str, ...] = ("conv1", "conv2")
    lora_presets: Mapping[str, tuple[str, ...]] = presets("attn", blocks="")
    lora_targets: tuple[str, ...] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "proj_in",
        "proj_out",
        "conv1",
        "conv2",
    )
    variants: Mapping[str, Variant] = {
        "image": Variant(
            repo="packaged with frisket",
            quantises=False,
            grid=LatentGrid(channels=12, spatial=2, temporal=1, patch=4),
            height=32,
            width=32,
            steps=20,
            guidance=3.0,
        ),
        "video": Variant(
            repo="packaged with frisket",
            quantises=False,
            grid=LatentGrid(channels=48, spatial=2, temporal=4, patch=4),
            frames=5,
            height=32,
            width=32,
            fps=8.0,
            steps=20,
            guidance=3.0,
        ),
        "video-i2v": Variant(
            repo="packaged with frisket",
            quantises=False,
            grid=LatentGrid(channels=48, spatial=2, temporal=4, patch=4),
            frames=5,
            height=32,
            width=32,
            fps=8.0,
            steps=20,
            guidance=3.0,
            sees="first_frame",
        ),
        "dit": Variant(
            repo="packaged with frisket",
            quantises=False,
            grid=LatentGrid(channels=12, spatial=2, temporal=1, patch=2),
            height=32,
            width=32,
            steps=20,
            guidance=3.0,
            lora_targets=TRANSFORMER_TARGETS,
        ),
    }

    def objective(
        self,
        variant: str,
        timesteps: TimestepSampler | None = None,
        *,
        weighting: LevelWeighting = "none",
        min_snr: float = 0.0,
    ) -> Objective:
        """Rectified flow at the density the base was trained with."""
        low = LEAST if self.variants[variant].video else 0.0
        sampler = timesteps or TimestepSampler(shift=self.variants[variant].shift, low=low)
        return super().objective(variant, sampler, weighting=weighting, min_snr=min_snr)

    def load_vae(self, source: Source) -> nn.Module:
        """The VAE, which only folds pixels: nothing is read from the source."""
        return PocketVae(self.variants[source.variant].grid.temporal)

    def load_text(self, source: Source) -> nn.Module:
        """The text encoder, whose vectors come from the words: nothing is read from the source."""
        return PocketText()

    def load_tokenizer(self, source: Source) -> nn.Module:
        """As `load_text`: nothing is read from the source."""
        return PocketText()

    def load_denoiser(self, source: Source) -> nn.Module:
        """The packaged denoiser, or one saved by `save` under `source.path`/denoiser."""
        if source.path:
            net = load_saved(source)
        else:
            net = build_denoiser(source.variant)
            net.load_state_dict(read_packaged(source.variant))
            net = net.to(source.device)
            net = net if source.dtype == torch.float32 else net.to(source.dtype)
        return net.requires_grad_(False).eval()

    def load_vision(self, source: Source) -> nn.Module | None:
        """For the image-to-video model a module without weights, which says that it is that one."""
        seeing = self.variants[source.variant].sees == "first_frame"
        return FirstFrameVision() if seeing else None

    def image_conditioning(
        self,
        vae: nn.Module,
        vision: nn.Module | None,
        clip: Clip,
        references: References = (),
        keep: Plane | None = None,
    ) -> Conditioning:
        """For the image-to-video model `condition` of `first_frame.show_clip`, else nothing.

        A reference is the first frame in place of the clip's own.
        """
        if vision is None:
            return {}
        return show_clip(lay_first(clip, references), mark_visible(clip, keep))

    def hold_condition(
        self, pipeline: Any, conditioning: Conditioning
    ) -> AbstractContextManager[None]:
        """Noise stays the pipeline's own; the condition is the one given."""
        return first_frame.hold_condition(pipeline, conditioning)

    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """Folded; already of unit scale."""
        latents: Latents = vae.encode(clip)  # type: ignore[operator]
        return latents

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The inverse of `encode`, exact but for the copies of frame 0, whose mean it takes."""
        clip: Clip = vae.decode(latents)  # type: ignore[operator]
        return clip

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
        """The velocity. The UNet of pictures takes frames one by one, that of clips two of them.

        A still (f = 1) is for the clip model a clip in which nothing moves.
        """
        return predict_latents(denoiser, noisy, t, conditioning)

    def list_attention_layers(self, denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
        """Cross-attention; the UNet of pictures has frames in the batch, the others none."""
        if is_transformer(denoiser):
            return list_wan_layers(denoiser)
        return list_unet_layers(denoiser, folded=not is_for_clips(denoiser))

    def pipeline(self, parts: Parts) -> Any:
        """A diffusers pipeline over the denoiser."""
        shift = self.variants[parts.variant].shift
        return PocketPipeline(parts.denoiser, FlowMatchEulerDiscreteScheduler(shift=shift))

    def call(
        self,
        variant: str,
        positive: Conditioning,
        negative: Conditioning | None,
        *,
        guidance: float,
        references: References = (),
    ) -> dict[str, Any]:
        """Embeddings by PocketPipeline's names; `image` where a first frame is seen."""
        frame_argument: dict[str, Any] = {}
        if self.variants[variant].sees == "first_frame":
            if len(references) != 1:
                raise ValueError(
                    f"pocket {variant} samples from one first frame, {len(references)} pictures"
                    " given"
                )
            frame_argument["image"] = Image.fromarray(references[0][0].cpu().numpy())
        return frame_argument | {
            "prompt_embeds": positive["tokens"],
            "negative_prompt_embeds": None if negative is None else negative["tokens"],
            "guidance_scale": guidance,
        }

    def tiny(self, variant: str) -> Parts:
        """A narrower random denoiser."""
        net = draw_transformer() if variant == "dit" else draw_net(variant)
        vae = PocketVae(self.variants[variant].grid.temporal)
        vision = self.load_vision(Source(variant))
        return Parts(variant, vae, PocketText(), net.requires_grad_(False).eval(), vision)

    def save(self, parts: Parts, folder: Path) -> None:
        """Write the denoiser under `folder`/denoiser (the other parts have no weights)."""
        if not isinstance(parts.denoiser, UNet2DConditionModel | WanTransformer3DModel):
            raise ValueError(f"nothing to save in {folder}: the denoiser is not loaded")
        parts.denoiser.save_pretrained(folder / "denoiser")


FAMILY: Family = Pocket()
