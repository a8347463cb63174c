"""The Stable Diffusion 3 family: joint-attention diffusion transformers (SD 3 and 3.5)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPTextModelWithProjection, T5EncoderModel

from frisket.attention.tokens import Spans
from frisket.families import tiny, weights
from frisket.families.base import Conditioning, Family, Parts, References, Source, Variant
from frisket.families.defaults import Standard, TextBundle, decode_kl, encode_kl, parts_of
from frisket.families.experts import first
from frisket.families.key_map import Names
from frisket.families.presets import presets
from frisket.families.shared import sd_files
from frisket.families.shared.clip_prompts import warn_cut
from frisket.families.shared.prompt_spans import check_agreement, load_tokenizers, read_prompts
from frisket.families.shared.routes.sd3 import Sd3Routes
from frisket.families.shared.streams.planes import Sd3Streams
from frisket.grid import LatentGrid
from frisket.shapes import Clip, Latents, PerSample

CLIP_TOKENS, T5_TOKENS = 77, 256  # the pipeline's own; both are always padded to that
GRID = LatentGrid(channels=16, spatial=8, patch=2)
SCALE, SHIFT = 1.5305, 0.0609
TEXT = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2", "tokenizer_3")
DUAL = "3.5-medium"  # its first 13 blocks attend to the picture alone as well

# transformer/config.json and vae/config.json of the released models beyond diffusers' defaults.
_WIDE = {"joint_attention_dim": 4096, "pooled_projection_dim": 2048, "sample_size": 128}
_MEDIUM = {**_WIDE, "caption_projection_dim": 1536, "num_attention_heads": 24, "num_layers": 24}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "3-medium": {**_MEDIUM, "pos_embed_max_size": 192},
    "3.5-medium": {
        **_MEDIUM,
        "pos_embed_max_size": 384,
        "qk_norm": "rms_norm",
        "dual_attention_layers": list(range(13)),
    },
    "3.5-large": {
        **_WIDE,
        "caption_projection_dim": 2432,
        "num_attention_heads": 38,
        "num_layers": 38,
        "pos_embed_max_size": 192,
        "qk_norm": "rms_norm",
    },
}
VAE: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "latent_channels": 16,
    "layers_per_block": 2,
    "sample_size": 1024,
    "scaling_factor": SCALE,
    "shift_factor": SHIFT,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}

_QKV = ("to_q", "to_k", "to_v")
_BLOCK, _JOINT = "transformer_blocks.{}", "joint_blocks.{}"
NAMES: dict[str, str | tuple[str, ...]] = {
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "context_embedder": "context_embedder",
    "final_layer.linear": "proj_out",
    f"{_JOINT}.x_block.adaLN_modulation.1": f"{_BLOCK}.norm1.linear",
    f"{_JOINT}.x_block.attn.qkv": tuple(f"{_BLOCK}.attn.{name}" for name in _QKV),
    f"{_JOINT}.x_block.attn.proj": f"{_BLOCK}.attn.to_out.0",
    f"{_JOINT}.x_block.attn2.qkv": tuple(f"{_BLOCK}.attn2.{name}" for name in _QKV),
    f"{_JOINT}.x_block.attn2.proj": f"{_BLOCK}.attn2.to_out.0",
    f"{_JOINT}.x_block.mlp.fc1": f"{_BLOCK}.ff.net.0.proj",
    f"{_JOINT}.x_block.mlp.fc2": f"{_BLOCK}.ff.net.2",
    f"{_JOINT}.context_block.attn.qkv": tuple(f"{_BLOCK}.attn.add_{n}_proj" for n in "qkv"),
    f"{_JOINT}.context_block.attn.proj": f"{_BLOCK}.attn.to_add_out",
    f"{_JOINT}.context_block.mlp.fc1": f"{_BLOCK}.ff_context.net.0.proj",
    f"{_JOINT}.context_block.mlp.fc2": f"{_BLOCK}.ff_context.net.2",
}
# The release has shift and scale in the other order here (of the latter: in the last block alone).
TURNED = {
    "final_layer.adaLN_modulation.1": "norm_out.linear",
    f"{_JOINT}.context_block.adaLN_modulation.1": f"{_BLOCK}.norm1_context.linear",
}


class StableDiffusion3(Standard):
    """The family; see `frisket.families.base.Family` for the contract."""

    name = "sd3"
    aliases: tuple[str, ...] = ("sd3", "sd35", "sd-3", "stable-diffusion-3")
    streams = Sd3Streams()
    routes = Sd3Routes()
    lora_prefix = "transformer"
    names = Names(NAMES, sliced=".*", turned=TURNED)
    lora_presets: Mapping[str, tuple[str, ...]] = presets(mlp=r"ff(_context)?[.]net")
    lora_targets: tuple[str, ...] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "add_q_proj",
        "add_k_proj",
        "add_v_proj",
        "to_add_out",
        "ff.net.0.proj",
        "ff.net.2",
        "ff_context.net.0.proj",
        "ff_context.net.2",
    )
    # The last block throws away what its text queries gather.
    lora_dead: tuple[str, ...] = ("transformer_blocks.{}.attn.add_q_proj",)
    variants: Mapping[str, Variant] = {
        name: Variant(
            repo=f"stabilityai/stable-diffusion-{repo}",
            grid=GRID,
            height=1024,
            width=1024,
            steps=steps,
            guidance=guidance,
            shift=3.0,
            like="3.5-large" if name == "3-medium" else "",
            architecture=f"stable-diffusion-3{suffix}",  # as kohya's trainer writes it
        )
        for name, repo, steps, guidance, suffix in (
            ("3.5-medium", "3.5-medium", 40, 4.5, "-5-medium"),
            ("3.5-large", "3.5-large", 28, 3.5, "-5-large"),
            ("3-medium", "3-medium-diffusers", 28, 7.0, "-m"),
        )
    }

    def load_vae(self, source: Source) -> nn.Module:
        """Load `vae/`, or the VAE in a single file that has one."""
        repo = self.variants[source.variant].repo
        if sd_files.holds(source, *sd_files.VAE):
            plain = replace(source, quantise="none")  # of the denoiser
            vae = weights.denoiser(AutoencoderKL, plain, repo, "vae", architecture=VAE)
        else:
            options = {"torch_dtype": source.dtype, "use_safetensors": True}
            vae = weights.load(AutoencoderKL, source, repo, "vae", **options)
        weights.expect(
            vae.config,
            {"latent_channels": 16, "scaling_factor": SCALE, "shift_factor": SHIFT},
            where=source.path or repo,
            what="a VAE of Stable Diffusion 3",
        )
        return weights.freeze(vae, source)

    def load_text(self, source: Source) -> nn.Module:
        """Load the two CLIP encoders and T5-XXL (11 GB together in bfloat16), three tokenizers."""
        repo = self.variants[source.variant].repo
        parts: dict[str, Any] = {}
        kinds = (CLIPTextModelWithProjection, CLIPTextModelWithProjection, T5EncoderModel)
        for kind, suffix in zip(kinds, ("", "_2", "_3"), strict=True):
            name = f"tokenizer{suffix}"
            parts[name] = weights.load(AutoTokenizer, source, repo, name)
            name = f"text_encoder{suffix}"
            options = {"torch_dtype": source.dtype, "use_safetensors": True}
            parts[name] = weights.load(kind, source, repo, name, **options)
        return weights.freeze(TextBundle(**parts), source)

    def load_tokenizer(self, source: Source) -> nn.Module:
        """Load the tokenizers of the two CLIP encoders and of T5."""
        repo = self.variants[source.variant].repo
        names = ("tokenizer", "tokenizer_2", "tokenizer_3")
        return TextBundle(**load_tokenizers(source, repo, *names))

    def load_denoiser(self, source: Source) -> nn.Module:
        """Load `transformer/`, or one .safetensors file with diffusers' or the authors' names."""
        repo = self.variants[source.variant].repo
        architecture = ARCHITECTURES[source.variant]
        model: Any = weights.denoiser(
            SD3Transformer2DModel, source, repo, architecture=architecture
        )
        dual = bool(model.config.dual_attention_layers)
        weights.expect(
            {**model.config, "dual attention": dual},
            {"in_channels": GRID.channels, "dual attention": source.variant == DUAL},
            where=source.path or repo,
            what=f"a transformer of Stable Diffusion {source.variant}",
        )
        return weights.freeze(model, source)

    @torch.no_grad()
    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """(Posterior mode - 0.0609) * 1.5305, float32."""
        return encode_kl(vae, clip, SCALE, SHIFT)

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The inverse of `encode`, float32."""
        return decode_kl(vae, latents, SCALE, SHIFT)

    @torch.no_grad()
    def embed(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> Conditioning:
        """`text` b 333 4096 and `pooled` b 2048: what the pipeline's encode_prompt returns.

        77 tokens of both CLIP encoders side by side, then 256 of T5. The prompt is cut at either
        length; a warning names those that even T5 does not see whole.
        """
        assert isinstance(text, TextBundle)
        warn_cut(text.tokenizer_3, prompts, T5_TOKENS)
        stock: Any = _pipeline(Parts(DUAL, text=text), None)
        embeds, _, pooled, _ = stock.encode_prompt(
            list(prompts),
            None,
            None,
            device=next(text.parameters()).device,
            do_classifier_free_guidance=False,
            max_sequence_length=T5_TOKENS,
        )
        return {"text": embeds, "pooled": pooled}

    def read_spans(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> list[Spans]:
        """CLIP's 77 positions, then T5's 256: a word has positions in both, where both read it."""
        assert isinstance(text, TextBundle)
        first_clip = read_prompts(text.tokenizer, prompts, CLIP_TOKENS)
        second_clip = read_prompts(text.tokenizer_2, prompts, CLIP_TOKENS)
        clip = check_agreement(first_clip, second_clip, model_name="Stable Diffusion 3")
        t5 = read_prompts(text.tokenizer_3, prompts, T5_TOKENS)
        return [[*row, *t5_row] for row, t5_row in zip(clip, t5, strict=True)]

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The velocity noise - clean, float32; the model is told t * 1000, in float32."""
        dtype = first(denoiser).pos_embed.proj.weight.dtype  # `denoiser.dtype` walks all modules
        device = noisy.device
        velocity: Tensor = denoiser(
            hidden_states=noisy.squeeze(2).to(dtype),
            timestep=t.to(device, torch.float32) * 1000,
            encoder_hidden_states=conditioning["text"].to(device, dtype),
            pooled_projections=conditioning["pooled"].to(device, dtype),
            return_dict=False,
        )[0]
        return velocity.float().unsqueeze(2)

    def pipeline(self, parts: Parts) -> Any:
        """StableDiffusion3Pipeline with Euler flow sampling, as the released checkpoints name."""
        shift = self.variants[parts.variant].shift
        return _pipeline(parts, FlowMatchEulerDiscreteScheduler(shift=shift))

    def call(
        self,
        variant: str,
        positive: Conditioning,
        negative: Conditioning | None,
        *,
        guidance: float,
        references: References = (),
    ) -> dict[str, Any]:
        """Embeddings by the pipeline's names."""
        return {
            "prompt_embeds": positive["text"],
            "pooled_prompt_embeds": positive["pooled"],
            "negative_prompt_embeds": None if negative is None else negative["text"],
            "negative_pooled_prompt_embeds": None if negative is None else negative["pooled"],
            "guidance_scale": 1.0 if negative is None else guidance,
        }

    def tiny(self, variant: str) -> Parts:
        """Two blocks, 32 channels wide, an 8-channel VAE, three byte tokenizers; seeded."""
        with tiny.seed_torch():
            vae = tiny.kl_vae(
                AutoencoderKL,
                16,
                scaling_factor=SCALE,
                shift_factor=SHIFT,
                use_quant_conv=False,
                use_post_quant_conv=False,
            )
            text = TextBundle(
                tokenizer=tiny.tokenizer(CLIP_TOKENS, begin=True),
                text_encoder=tiny.clip_text(16, projection=16),
                tokenizer_2=tiny.tokenizer(CLIP_TOKENS, begin=True),
                text_encoder_2=tiny.clip_text(16, projection=16),
                tokenizer_3=tiny.tokenizer(T5_TOKENS),
                text_encoder_3=tiny.t5(32),
            )
            denoiser = SD3Transformer2DModel(
                sample_size=32,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=32,
                caption_projection_dim=16,
                pooled_projection_dim=32,
                pos_embed_max_size=32,
                qk_norm="rms_norm",
                dual_attention_layers=[0] if variant == DUAL else [],
            )
        return Parts(variant, *tiny.quiet(vae, text, denoiser))


def _pipeline(parts: Parts, scheduler: Any) -> StableDiffusion3Pipeline:
    return StableDiffusion3Pipeline(
        **parts_of(parts.text, *TEXT, "text_encoder_3"),
        vae=parts.vae,
        transformer=parts.denoiser,
        scheduler=scheduler,
    )


FAMILY: Family = StableDiffusion3()
