"""The Wan family: video diffusion transformers over a causal video VAE (Wan 2.1 and 2.2)."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from PIL import Image
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPVisionModel, UMT5EncoderModel

from frisket.attention.tokens import Spans
from frisket.families import weights
from frisket.families.base import Conditioning, Family, Parts, References, Source
from frisket.families.defaults import Standard, TextBundle, parts_of
from frisket.families.experts import Experts, experts_of, first
from frisket.families.models.wan import latents as latents_module
from frisket.families.models.wan import tiny as wan_tiny
from frisket.families.models.wan.latents import Vision, clip_processor
from frisket.families.models.wan.model_cards import (
    ARCHITECTURES,
    FOLDERS,
    GRID,
    LORA_TARGETS,
    LOW_GUIDANCE,
    NAMES,
    VARIANTS,
    describe,
    has_clip,
    list_expected,
)
from frisket.families.presets import presets
from frisket.families.shared.prompt_spans import load_tokenizers, read_cleaned
from frisket.families.shared.routes.wan import WanRoutes
from frisket.families.shared.streams.planes import WanStreams
from frisket.shapes import Clip, Latents, PerSample, Plane

TOKENS = 512  # the length WanPipeline pads every prompt to; the models were trained with it

logger = logging.getLogger(__name__)


class Wan(Standard):
    """The family; see `frisket.families.base.Family` for the contract."""

    name = "wan"
    aliases: tuple[str, ...] = ("wan",)
    variants = VARIANTS
    streams = WanStreams()
    routes = WanRoutes()
    lora_prefix = "transformer"  # of the keys in a saved adapter, as WanPipeline reads them
    names = NAMES
    lora_presets: Mapping[str, tuple[str, ...]] = presets(mlp="ffn", blocks="blocks")
    lora_targets: tuple[str, ...] = LORA_TARGETS

    def load_vae(self, source: Source) -> nn.Module:
        """Load `vae/`. float32 is what upstream decodes with; bfloat16 shows in fine texture."""
        card = self.variants[source.variant]
        vae = weights.load(
            AutoencoderKLWan,
            source,
            card.repo,
            "vae",
            torch_dtype=source.dtype,
            use_safetensors=True,
        )
        what = "a Wan 2.1 VAE" if card.grid is GRID else "the VAE of Wan 2.2 TI2V"
        where = source.path or card.repo
        weights.expect(vae.config, {"z_dim": card.grid.channels}, where=where, what=what)
        return weights.freeze(vae, source)

    def load_text(self, source: Source) -> nn.Module:
        """Load `tokenizer/` and `text_encoder/` (UMT5-XXL: 11 GB in bfloat16)."""
        repo = self.variants[source.variant].repo
        tokenizer = weights.load(AutoTokenizer, source, repo, "tokenizer")
        encoder = weights.load(
            UMT5EncoderModel,
            source,
            repo,
            "text_encoder",
            torch_dtype=source.dtype,
            use_safetensors=True,
        )
        return weights.freeze(TextBundle(tokenizer=tokenizer, text_encoder=encoder), source)

    def load_vision(self, source: Source) -> nn.Module | None:
        """What a first-frame variant looks with: 2.1's `image_encoder/` (CLIP ViT-H), else nothing.

        A bundle without weights for the 2.2 variants, which see the frame through their VAE alone.
        """
        card = self.variants[source.variant]
        if card.sees != "first_frame":
            return None
        if not has_clip(source.variant):
            return Vision()
        encoder = weights.load(
            CLIPVisionModel,
            source,
            card.repo,
            "image_encoder",
            torch_dtype=source.dtype,
            use_safetensors=True,
        )
        processor = weights.load(clip_processor(), source, card.repo, "image_processor")
        return weights.freeze(Vision(image_encoder=encoder, image_processor=processor), source)

    def load_tokenizer(self, source: Source) -> nn.Module:
        """Load `tokenizer/` alone, no encoder: `read_spans` needs no more."""
        repo = self.variants[source.variant].repo
        return TextBundle(**load_tokenizers(source, repo, "tokenizer"))

    def load_denoiser(self, source: Source) -> nn.Module:
        """Load `transformer/` (and `transformer_2/`), or one .safetensors file.

        A two-expert variant gives `Experts` of those `source.experts` names, high and low noise; a
        single file is one expert, so it must name one. ValueError where it does not, or for an
        expert the variant does not have.
        """
        experts = self._list_experts(source)
        file = weights.local(source)
        if not experts:
            if file is not None and (file / "transformer_2").is_dir():
                raise ValueError(
                    f"{file} is not a {describe(source.variant)}: it has a transformer_2/, so it"
                    " is a two-expert model. Check model.variant."
                )
            return weights.freeze(self._transformer(source, "transformer"), source)
        if file is not None and file.is_file() and len(experts) > 1:
            raise ValueError(
                f"{file} holds one expert, and {' and '.join(experts)} are asked for: set"
                ' model.experts = "high" or "low", whichever the file is, or give the folder'
            )
        shapes = source.device == weights.SHAPES  # nothing to keep apart
        apart = source if shapes else replace(source, device="cpu")  # both may not fit the device
        loaded = {
            name: weights.freeze(self._transformer(apart, FOLDERS[name]), apart) for name in experts
        }
        ranges = self.variants[source.variant].experts
        return Experts(loaded, ranges).eval().on(source.device)

    def _list_experts(self, source: Source) -> tuple[str, ...]:
        """The experts to load, in the order of their ranges; none for a one-model variant."""
        there = tuple(self.variants[source.variant].experts)
        strange = [name for name in source.experts if name not in there]
        if strange:
            raise ValueError(
                f"wan {source.variant} has no expert {', '.join(strange)}"
                f" (it has: {', '.join(there) or 'one model for all noise levels'})"
            )
        return tuple(name for name in there if name in source.experts) or there

    def _transformer(self, source: Source, subfolder: str) -> Any:
        variant = source.variant
        repo = self.variants[variant].repo
        model: Any = weights.denoiser(
            WanTransformer3DModel, source, repo, subfolder, architecture=ARCHITECTURES[variant]
        )
        where, what = source.path or repo, f"a {describe(variant)}"
        weights.expect(model.config, list_expected(variant), where=where, what=what)
        if (model.config.image_dim is not None) != has_clip(variant):
            has = "has no" if has_clip(variant) else "has an"
            raise ValueError(
                f"{where} is not {what}: it {has} input for an image encoder (image_dim is"
                f" {model.config.image_dim}). Check model.variant."
            )
        return model

    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """Posterior mode, normalised by the VAE's own statistics per channel; float32."""
        return latents_module.encode(vae, clip)

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The inverse of `encode`, clamped to [-1, 1], float32."""
        return latents_module.decode(vae, latents)

    @torch.no_grad()
    def embed(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> Conditioning:
        """`text` b 512 d: what WanPipeline.encode_prompt returns, zero after the prompt's end.

        Prompts over 512 tokens are cut there, as upstream does; a warning names them.
        """
        assert isinstance(text, TextBundle)
        tokenizer: Any = text.tokenizer
        lengths = [len(ids) for ids in tokenizer(list(prompts)).input_ids]
        for prompt, length in zip(prompts, lengths, strict=True):
            if length > TOKENS:
                logger.warning("%d tokens cut to %d: %.60s...", length, TOKENS, prompt)
        pipeline: Any = WanPipeline(**text.parts(), vae=None, scheduler=None)
        embeds, _ = pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=TOKENS
        )
        return {"text": embeds}

    def read_spans(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> list[Spans]:
        """512 positions a prompt; its characters are those from before the pipeline tidied it."""
        assert isinstance(text, TextBundle)
        options = {"padding": "max_length", "truncation": True, "max_length": TOKENS}
        return [
            read_cleaned(text.tokenizer, prompt_clean(prompt), prompt, **options).spans
            for prompt in prompts
        ]

    def image_conditioning(
        self,
        vae: nn.Module,
        vision: nn.Module | None,
        clip: Clip,
        references: References = (),
        keep: Plane | None = None,
    ) -> Conditioning:
        """The first frame, for the variants that have a `vision`; see `latents` beside this file.

        Of a still (F = 1) nothing is shown but what `keep` keeps of it, or of the reference in its
        place: the frame to go on from would be all there is to learn.
        """
        if vision is None:
            return {}
        assert isinstance(vision, Vision)
        return latents_module.image_conditioning(vae, vision, clip, keep, references)

    def hold_condition(
        self, pipeline: Any, conditioning: Conditioning
    ) -> AbstractContextManager[None]:
        """Noise stays the pipeline's own; condition and clean latents are those given."""
        return latents_module.hold_condition(pipeline, conditioning)

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The velocity noise - clean, float32; the model is told t * 1000.

        The timestep stays float32 whatever the model's precision, as in WanPipeline: bfloat16
        would round 937 to 936 and everything above 512 to multiples of 4.
        """
        inner = first(denoiser)
        dtype = inner.patch_embedding.weight.dtype  # `denoiser.dtype` walks all modules
        states, timestep = latents_module.build_inputs(noisy, t, conditioning)
        if states.shape[1] != inner.config.in_channels:
            raise ValueError(
                f"this Wan transformer reads {inner.config.in_channels} channels and was given"
                f" {states.shape[1]}: an image-to-video model needs what `image_conditioning`"
                " gives, and no other takes it. Check model.variant, or prepare the data again."
            )
        texts = {"encoder_hidden_states": conditioning["text"]}
        if "vision" in conditioning:
            texts["encoder_hidden_states_image"] = conditioning["vision"]
        kwargs: dict[str, Any] = {k: v.to(noisy.device, dtype) for k, v in texts.items()}
        velocity: Tensor = denoiser(
            hidden_states=states.to(dtype), timestep=timestep, return_dict=False, **kwargs
        )[0]
        return velocity.float()

    def pipeline(self, parts: Parts) -> Any:
        """WanPipeline or WanImageToVideoPipeline with UniPC flow sampling, as released.

        `parts.text` may be None where prompt embeddings are passed in, `parts.vae` where latents
        are asked for. ValueError where an expert is missing: half a model samples noise.
        """
        card = self.variants[parts.variant]
        kwargs: dict[str, Any] = {
            **parts_of(parts.text, "tokenizer", "text_encoder"),
            "vae": parts.vae,
            "scheduler": UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=card.shift
            ),
            "transformer": parts.denoiser,
            "expand_timesteps": card.grid is not GRID,
        }
        if card.experts:
            kwargs |= _both(parts)
            kwargs["boundary_ratio"] = card.experts["high"][0]
        kind: Any = WanPipeline
        if card.sees == "first_frame":
            # Not at the top: the module looks for torchvision and logs that there is none.
            from diffusers import WanImageToVideoPipeline  # noqa: PLC0415

            kind = WanImageToVideoPipeline
            if parts.vision is None:
                raise ValueError(
                    f"wan {parts.variant} samples from a first frame: load_vision first"
                )
            kwargs |= parts_of(parts.vision)
        pipeline = kind(**kwargs)
        pipeline.vae_scale_factor_spatial = card.grid.spatial  # a guess of 8 without a VAE
        return pipeline

    def call(
        self,
        variant: str,
        positive: Conditioning,
        negative: Conditioning | None,
        *,
        guidance: float,
        references: References = (),
    ) -> dict[str, Any]:
        """Embeddings by the pipeline's names, and the first frame as `image` where one is seen.

        The low-noise expert of 2.2 T2V A14B is guided less, as its authors do (4 and 3).
        """
        card = self.variants[variant]
        guidance = 1.0 if negative is None else guidance
        kwargs: dict[str, Any] = {
            "prompt_embeds": positive["text"],
            "negative_prompt_embeds": None if negative is None else negative["text"],
            "guidance_scale": guidance,
        }
        if variant in LOW_GUIDANCE:
            kwargs["guidance_scale_2"] = 1 + (guidance - 1) * LOW_GUIDANCE[variant]
        if card.sees == "first_frame":
            if len(references) != 1:
                raise ValueError(
                    f"wan {variant} samples from one first frame, {len(references)} pictures given"
                )
            kwargs["image"] = Image.fromarray(references[0][0].cpu().numpy())
        return kwargs

    def save(self, parts: Parts, folder: Path) -> None:
        """As `Standard.save`; a first-frame variant needs its `vision` too."""
        if self.variants[parts.variant].sees == "first_frame" and parts.vision is None:
            raise ValueError(f"nothing written to {folder}: vision not loaded")
        super().save(parts, folder)

    def tiny(self, variant: str) -> Parts:
        """Two layers, 24 channels wide, a byte tokenizer and VAEs of 8 channels; seeded."""
        return wan_tiny.parts(variant)


def _both(parts: Parts) -> dict[str, nn.Module]:
    if parts.denoiser is None:
        return {}
    there = experts_of(parts.denoiser)
    lost = [name for name in FOLDERS if name not in there]
    if lost:
        raise ValueError(
            f"wan {parts.variant} needs both experts to sample or to be saved, and"
            f" {' and '.join(lost)} is not loaded: leave model.experts at both"
        )
    return {folder: there[name] for name, folder in FOLDERS.items()}


FAMILY: Family = Wan()
