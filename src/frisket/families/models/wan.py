"""The Wan family: text-to-video diffusion transformers over a causal video VAE (Wan 2.1 T2V)."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from torch import Tensor, nn
from transformers import AutoTokenizer, UMT5EncoderModel

from frisket.families import tiny, weights
from frisket.families.base import Conditioning, Family, Parts, References, Source, Variant
from frisket.families.names import Names
from frisket.families.standard import Standard, Text, parts_of
from frisket.grid import LatentGrid
from frisket.shapes import Clip, Latents, PerSample

TOKENS = 512  # the length WanPipeline pads every prompt to; the model was trained with it
GRID = LatentGrid(channels=16, spatial=8, temporal=4, patch=2)

# What a transformer/config.json of these repositories says beyond diffusers' own defaults: a single
# file carries no configuration, and asking the hub for one would break offline use.
ARCHITECTURES: dict[str, dict[str, int]] = {
    "2.1-t2v-1.3b": {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960},
    "2.1-t2v-14b": {"num_attention_heads": 40, "num_layers": 40, "ffn_dim": 13824},
}

logger = logging.getLogger(__name__)


class Wan(Standard):
    """The family; see `frisket.families.base.Family` for the contract."""

    name = "wan"
    lora_prefix = "transformer"  # of the keys in a saved adapter, as WanPipeline reads them
    names = Names()
    lora_targets: tuple[str, ...] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "ffn.net.0.proj",
        "ffn.net.2",
    )
    variants: Mapping[str, Variant] = {
        name: Variant(
            repo=f"Wan-AI/Wan2.1-T2V-{size}-Diffusers",
            grid=GRID,
            frames=81,
            height=480,
            width=832,
            fps=16.0,
            steps=30,
            guidance=5.0,
            shift=3.0,  # the authors' for 480p; 720p takes 5 ([timesteps] shift)
        )
        for name, size in (("2.1-t2v-1.3b", "1.3B"), ("2.1-t2v-14b", "14B"))
    }

    def load_vae(self, source: Source) -> nn.Module:
        """Load `vae/`. float32 is what upstream decodes with; bfloat16 shows in fine texture."""
        repo = self.variants[source.variant].repo
        vae = weights.load(
            AutoencoderKLWan, source, repo, "vae", torch_dtype=source.dtype, use_safetensors=True
        )
        weights.expect(
            vae.config, {"z_dim": GRID.channels}, where=source.path or repo, what="a Wan 2.1 VAE"
        )
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
        return weights.freeze(Text(tokenizer=tokenizer, text_encoder=encoder), source)

    def load_denoiser(self, source: Source) -> nn.Module:
        """Load `transformer/`, or one .safetensors file with diffusers' or the original's names."""
        repo = self.variants[source.variant].repo
        architecture = ARCHITECTURES[source.variant]
        model: Any = weights.denoiser(
            WanTransformer3DModel, source, repo, architecture=architecture
        )
        weights.expect(
            model.config,
            {"in_channels": GRID.channels, "out_channels": GRID.channels, "image_dim": None},
            where=source.path or repo,
            what="a Wan 2.1 text-to-video transformer",
        )
        return weights.freeze(model, source)

    @torch.no_grad()
    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """Posterior mode, then (z - latents_mean) / latents_std per channel; float32.

        As WanVideoToVideoPipeline.prepare_latents does. One latent frame from the first frame, one
        from every four frames after it.
        """
        GRID.cells(*clip.shape[2:])
        weight = next(vae.parameters())
        wan: Any = vae
        posterior = wan.encode(clip.to(weight.device, weight.dtype)).latent_dist
        mean, std = _statistics(vae, weight.device)
        normal: Tensor = (posterior.mode().float() - mean) / std
        return normal

    @torch.no_grad()
    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The inverse of `encode`, clamped to [-1, 1], float32."""
        weight = next(vae.parameters())
        mean, std = _statistics(vae, weight.device)
        raw = latents.to(weight.device).float() * std + mean
        wan: Any = vae
        clip: Tensor = wan.decode(raw.to(weight.dtype), return_dict=False)[0].float()
        return clip

    @torch.no_grad()
    def embed(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> Conditioning:
        """`text` b 512 d: what WanPipeline.encode_prompt returns, zero after the prompt's end.

        Prompts over 512 tokens are cut there, as upstream does; a warning names them.
        """
        assert isinstance(text, Text)
        lengths = [len(ids) for ids in text.tokenizer(list(prompts)).input_ids]
        for prompt, length in zip(prompts, lengths, strict=True):
            if length > TOKENS:
                logger.warning("%d tokens cut to %d: %.60s...", length, TOKENS, prompt)
        pipeline: Any = WanPipeline(**text.parts(), vae=None, scheduler=None)
        embeds, _ = pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=TOKENS
        )
        return {"text": embeds}

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The velocity noise - clean, float32; the model is told t * 1000.

        The timestep stays float32 whatever the model's precision, as in WanPipeline: bfloat16
        would round 937 to 936 and everything above 512 to multiples of 4.
        """
        inner: Any = getattr(denoiser, "module", denoiser)  # inside DistributedDataParallel
        dtype = inner.patch_embedding.weight.dtype  # `denoiser.dtype` walks all modules
        velocity: Tensor = denoiser(
            hidden_states=noisy.to(dtype),
            timestep=t.to(noisy.device, torch.float32) * 1000,
            encoder_hidden_states=conditioning["text"].to(noisy.device, dtype),
            return_dict=False,
        )[0]
        return velocity.float()

    def pipeline(self, parts: Parts) -> Any:
        """WanPipeline with UniPC flow sampling, the scheduler the released checkpoints name.

        `parts.text` may be None where prompt embeddings are passed in, `parts.vae` where latents
        are asked for.
        """
        scheduler = UniPCMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=self.variants[parts.variant].shift,
        )
        return WanPipeline(
            **parts_of(parts.text, "tokenizer", "text_encoder"),
            vae=parts.vae,
            scheduler=scheduler,
            transformer=parts.denoiser,
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
        """Embeddings by WanPipeline's names."""
        return {
            "prompt_embeds": positive["text"],
            "negative_prompt_embeds": None if negative is None else negative["text"],
            "guidance_scale": guidance,
        }

    def tiny(self, variant: str) -> Parts:
        """Two layers, 24 channels wide, a 10-channel VAE and a byte tokenizer; seeded."""
        with tiny.seeded():
            vae = AutoencoderKLWan(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
            text = Text(tokenizer=tiny.tokenizer(TOKENS), text_encoder=tiny.umt5())
            denoiser = WanTransformer3DModel(
                num_attention_heads=2,
                attention_head_dim=12,
                text_dim=32,
                freq_dim=32,
                ffn_dim=32,
                num_layers=2,
                rope_max_seq_len=64,
            )
        return Parts(variant, *tiny.quiet(vae, text, denoiser))


def _statistics(vae: nn.Module, device: torch.device) -> tuple[Tensor, Tensor]:
    config: Any = vae.config
    view = (1, -1, 1, 1, 1)
    mean = torch.tensor(config.latents_mean, device=device).view(view)
    return mean, torch.tensor(config.latents_std, device=device).view(view)


FAMILY: Family = Wan()
