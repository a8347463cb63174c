"""The HunyuanVideo family: Tencent's video transformers, the first one (13B) and 1.5 (8.3B)."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPTextModel, LlamaConfig, LlamaModel

from frisket.attention.tokens import Spans
from frisket.families import tiny, weights
from frisket.families.base import Conditioning, Family, Parts, References, Source, Variant
from frisket.families.defaults import Standard, parts_of
from frisket.families.experts import first
from frisket.families.models.hunyuan_video import first_frame
from frisket.families.models.hunyuan_video import version_15 as fifteen
from frisket.families.models.hunyuan_video.key_map import NAMES, expect_kind
from frisket.families.models.hunyuan_video.routes import HunyuanRoutes
from frisket.families.models.hunyuan_video.text import (
    HunyuanText,
    cut_to_longest,
    find_llama_spans,
    find_qwen_spans,
    trim_tokens,
)
from frisket.families.presets import presets
from frisket.families.shared.first_frames import lay_first
from frisket.families.shared.prompt_spans import load_tokenizers
from frisket.families.shared.streams.planes import HunyuanStreams
from frisket.grid import LatentGrid
from frisket.shapes import Clip, Latents, PerSample, Plane

GRID = LatentGrid(channels=16, spatial=8, temporal=4, patch=2)
TOKENS = 256  # of a prompt, after the template's
FIRST = "t2v"  # the one variant that is not 1.5
ARCHITECTURES: dict[str, dict[str, Any]] = {FIRST: {}}  # diffusers' defaults are the released model

# The scale of guidance that training tells the distilled model, before its factor of 1000: 1, as
# diffusion-pipe does (musubi leaves the factor out while training, not while it samples). Sampling
# tells it 6, but the target of training is the data itself, and 6 would be learnt as what the data
# looks like after guidance.
GUIDANCE = 1.0


class HunyuanVideo(Standard):
    """The family; see `frisket.families.base.Family` for the contract."""

    name = "hunyuan_video"
    aliases: tuple[str, ...] = ("hunyuan-video", "hunyuanvideo")
    streams = HunyuanStreams()
    routes = HunyuanRoutes()
    lora_prefix = "transformer"
    names = NAMES
    # The blocks' attention and feed-forward, as diffusion-pipe and musubi train them: not the
    # token refiner of the text, whose layers have the same endings. 1.5 has no single blocks, and
    # an ending that hits nothing is an error: one expression for both.
    lora_presets: Mapping[str, tuple[str, ...]] = presets(mlp=r"ff[.]net|proj_mlp")
    lora_targets: tuple[str, ...] = (
        r"/^(single_)?transformer_blocks[.]\d+[.]"
        r"(attn[.](to_[qkv]|to_out[.]0|add_[qkv]_proj|to_add_out)"
        r"|ff(_context)?[.]net[.](0[.]proj|2)|proj_mlp|proj_out)$/",
    )
    # 1.5 ends after its double blocks and throws the text stream away; the first model's goes on to
    # the single blocks and learns.
    lora_dead: tuple[str, ...] = (
        "transformer_blocks.{}.attn.add_q_proj",
        "transformer_blocks.{}.attn.to_add_out",
        "transformer_blocks.{}.ff_context.net.0.proj",
        "transformer_blocks.{}.ff_context.net.2",
    )
    variants: Mapping[str, Variant] = {
        FIRST: Variant(
            repo="hunyuanvideo-community/HunyuanVideo",
            grid=GRID,
            frames=129,
            height=720,
            width=1280,
            fps=24.0,
            steps=50,
            guidance=6.0,
            shift=7.0,
            negative=False,
            pooled_time=True,
            architecture="hunyuan-video",
            lora_dead=(),
        ),
        **fifteen.variants(),
    }

    def load_vae(self, source: Source) -> nn.Module:
        """Load `vae/`: 0.25 B parameters, 1.26 B for 1.5."""
        repo = self.variants[source.variant].repo
        early = source.variant == FIRST
        kind: Any = AutoencoderKLHunyuanVideo if early else AutoencoderKLHunyuanVideo15
        expect_kind(kind, source, "vae")
        vae = weights.load(
            kind, source, repo, "vae", torch_dtype=source.dtype, use_safetensors=True
        )
        grid = self.variants[source.variant].grid
        weights.expect(
            vae.config,
            {"latent_channels": grid.channels, "spatial_compression_ratio": grid.spatial},
            where=source.path or repo,
            what=f"a HunyuanVideo{'' if early else '-1.5'} VAE",
        )
        return weights.freeze(vae, source)

    def load_text(self, source: Source) -> nn.Module:
        """Load both tokenizers and text encoders: Llama 3 8B and CLIP, or Qwen2.5-VL and ByT5."""
        repo = self.variants[source.variant].repo
        if source.variant != FIRST:
            return weights.freeze(fifteen.load_text(source, repo), source)
        options = {"torch_dtype": source.dtype, "use_safetensors": True}
        text = HunyuanText(
            True,
            tokenizer=weights.load(AutoTokenizer, source, repo, "tokenizer"),
            text_encoder=weights.load(LlamaModel, source, repo, "text_encoder", **options),
            tokenizer_2=weights.load(AutoTokenizer, source, repo, "tokenizer_2"),
            text_encoder_2=weights.load(CLIPTextModel, source, repo, "text_encoder_2", **options),
        )
        return weights.freeze(text, source)

    def load_tokenizer(self, source: Source) -> nn.Module:
        """Load `tokenizer/`, of the encoder that makes `text`."""
        repo = self.variants[source.variant].repo
        parts = load_tokenizers(source, repo, "tokenizer")
        return HunyuanText(source.variant == FIRST, **parts)

    def load_vision(self, source: Source) -> nn.Module | None:
        """Load Siglip for an image-to-video variant."""
        card = self.variants[source.variant]
        if card.sees == "nothing":
            return None
        return weights.freeze(fifteen.load_vision(source, card.repo), source)

    def load_denoiser(self, source: Source) -> nn.Module:
        """Load `transformer/`, or one .safetensors file with diffusers' or Tencent's names."""
        card = self.variants[source.variant]
        where = source.path or card.repo
        kind = HunyuanVideoTransformer3DModel
        expect_kind(
            kind if source.variant == FIRST else HunyuanVideo15Transformer3DModel,
            source,
            "transformer",
        )
        if source.variant != FIRST:
            model = fifteen.load_denoiser(source, card.repo)
            what = f"a HunyuanVideo-1.5 {source.variant.rpartition('-')[2]} transformer"
            weights.expect(model.config, fifteen.checks(card, source), where=where, what=what)
            return weights.freeze(model, source)
        model = weights.denoiser(kind, source, card.repo, architecture=ARCHITECTURES[FIRST])
        weights.expect(
            model.config,
            {
                "in_channels": GRID.channels,
                "out_channels": GRID.channels,
                "image_condition_type": None,
            },
            where=where,
            what="a HunyuanVideo text-to-video transformer",
        )
        return weights.freeze(model, source)

    @torch.no_grad()
    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """Posterior mode times scaling_factor, float32, as the image-to-video pipelines do.

        The first model's VAE takes more than 16 frames in overlapping stretches (upstream's
        default), and its group norms see a stretch as a whole: what happens late in it reaches,
        faintly, the latents of all of it.
        """
        kl, grid = _open_vae(vae)
        grid.cells(*clip.shape[2:])
        weight = next(vae.parameters())
        raw: Tensor = kl.encode(clip.to(weight.device, weight.dtype)).latent_dist.mode().float()
        return raw * float(kl.config.scaling_factor)

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The inverse of `encode`, float32; not clamped."""
        kl, _ = _open_vae(vae)
        weight = next(vae.parameters())
        raw = latents.to(weight.device).float() / kl.config.scaling_factor
        clip: Tensor = kl.decode(raw.to(weight.dtype), return_dict=False)[0].float()
        return clip

    @torch.no_grad()
    def embed(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> Conditioning:
        """`text` b T d with `text_mask`, and `pooled` b d of CLIP; of 1.5 see `hunyuan_15.embed`.

        What HunyuanVideoPipeline.encode_prompt returns, without its padding. Prompts are cut at 256
        tokens (77 for CLIP), as upstream does, with a warning.
        """
        assert isinstance(text, HunyuanText)
        if not text.early:
            return fifteen.embed(text, prompts)
        pipeline: Any = HunyuanVideoPipeline(
            **text.parts(), vae=None, transformer=None, scheduler=None
        )
        embeds, pooled, mask = pipeline.encode_prompt(list(prompts), max_sequence_length=TOKENS)
        return {**cut_to_longest(embeds, mask, prompts, "text"), "pooled": pooled}

    def read_spans(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> list[Spans]:
        """As long as the prompt and the template's end, on the axis of `text`.

        1.5 reads what stands in quotation marks a second time, on the axis of `glyphs`, of which
        nothing is said here.
        """
        assert isinstance(text, HunyuanText)
        if text.early:
            return find_llama_spans(text.tokenizer, prompts, TOKENS)
        return find_qwen_spans(text.tokenizer, prompts, fifteen.TOKENS)

    @torch.no_grad()
    def image_conditioning(
        self,
        vae: nn.Module,
        vision: nn.Module | None,
        clip: Clip,
        references: References = (),
        keep: Plane | None = None,
    ) -> Conditioning:
        """Nothing for text to video; of image to video see `first_frame.show_clip`."""
        if vision is None:
            return {}
        clip = lay_first(clip, references)
        latents = self.encode(vae, first_frame.cut_visible(clip, keep))
        is_reference = bool(references)
        return first_frame.show_clip(vision, latents, clip, keep, is_reference=is_reference)

    def hold_condition(
        self, pipeline: Any, conditioning: Conditioning
    ) -> AbstractContextManager[None]:
        """For the image-to-video models of 1.5; see `first_frame.hold_condition`."""
        return first_frame.hold_condition(pipeline, conditioning)

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The velocity noise - clean, float32; the model is told t * 1000 in float32.

        The distilled model is told a guidance of `GUIDANCE` * 1000, or of `guidance` (b) in the
        conditioning, on the pipeline's scale. Tokens that no text of the batch has are left out.
        """
        model = first(denoiser)
        if isinstance(model, HunyuanVideo15Transformer3DModel):
            return fifteen.predict(denoiser, noisy, t, conditioning)
        dtype, device = model.x_embedder.proj.weight.dtype, noisy.device
        text, mask = trim_tokens(conditioning["text"], conditioning["text_mask"])
        guidance = conditioning.get("guidance", torch.full((len(noisy),), GUIDANCE))
        velocity: Tensor = denoiser(
            hidden_states=noisy.to(dtype),
            timestep=t.to(device, torch.float32) * 1000,
            encoder_hidden_states=text.to(device, dtype),
            encoder_attention_mask=mask.to(device, dtype),
            pooled_projections=conditioning["pooled"].to(device, dtype),
            guidance=guidance.to(device, torch.float32) * 1000,
            return_dict=False,
        )[0]
        return velocity.float()

    def pipeline(self, parts: Parts) -> Any:
        """The public pipeline with Euler flow sampling, the scheduler the checkpoints name."""
        card = self.variants[parts.variant]
        if parts.variant != FIRST:
            return fifteen.pipeline(parts, card)
        return HunyuanVideoPipeline(
            **parts_of(parts.text, *fifteen.TEXT),
            vae=parts.vae,
            transformer=parts.denoiser,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=card.shift),
        )

    def call(
        self,
        variant: str,
        positive: Conditioning,
        negative: Conditioning | None,
        *,
        guidance: float,
        references: References = (),
    ) -> dict[str, Any]:
        """Embeddings by the pipelines' names; the first model's guidance is an input of its own."""
        if variant != FIRST:
            card = self.variants[variant]
            return fifteen.call(card, positive, negative, guidance, references)
        return {
            "prompt_embeds": positive["text"],
            "prompt_attention_mask": positive["text_mask"],
            "pooled_prompt_embeds": positive["pooled"],
            "guidance_scale": guidance,
        }

    def tiny(self, variant: str) -> Parts:
        """Two blocks and a single one, 32 channels wide, and byte tokenizers; seeded."""
        if variant != FIRST:
            return fifteen.tiny_parts(variant, self.variants[variant])
        with tiny.seed_torch():
            vae = AutoencoderKLHunyuanVideo(
                block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
            )
            denoiser = HunyuanVideoTransformer3DModel(
                num_attention_heads=2,
                attention_head_dim=16,
                num_layers=2,
                num_single_layers=1,
                num_refiner_layers=1,
                mlp_ratio=2.0,
                text_embed_dim=16,
                pooled_projection_dim=32,
                rope_axes_dim=(4, 6, 6),
            )
            return Parts(variant, *tiny.quiet(vae, _tiny_text(), denoiser))


def _open_vae(vae: nn.Module) -> tuple[Any, LatentGrid]:
    """The VAE, ready for a batch, and its grid."""
    if isinstance(vae, AutoencoderKLHunyuanVideo):
        return vae, GRID
    return fifteen.enable_slicing(vae), fifteen.GRID


def _tiny_text() -> HunyuanText:
    before = DEFAULT_PROMPT_TEMPLATE["template"].partition("{}")[0]
    # One token for most of the template, so that before the prompt it has those that are dropped
    # (<s> is one of them).
    start = (before[: 2 - DEFAULT_PROMPT_TEMPLATE["crop_start"]],)
    llama = LlamaConfig(
        vocab_size=tiny.VOCABULARY,
        hidden_size=16,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return HunyuanText(
        True,
        tokenizer=tiny.tokenizer(1024, begin=True, extra=start),
        text_encoder=LlamaModel(llama),
        tokenizer_2=tiny.tokenizer(77, begin=True),
        text_encoder_2=tiny.clip_text(),
    )


FAMILY: Family = HunyuanVideo()
