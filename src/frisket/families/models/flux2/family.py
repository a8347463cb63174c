"""The FLUX.2 family: dev (32B, guidance-distilled) and klein (4B and 9B, base and distilled)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
)
from torch import Tensor, nn
from transformers import AutoTokenizer, Mistral3ForConditionalGeneration, Qwen3ForCausalLM

from frisket.attention.tokens import Spans
from frisket.families import tiny, weights
from frisket.families.base import Conditioning, Family, Parts, References, Source, Variant
from frisket.families.defaults import Standard, decode_kl, encode_kl, parts_of
from frisket.families.experts import first
from frisket.families.models.flux2.text import FluxText, make_tiny_mistral, make_tiny_qwen
from frisket.families.presets import presets
from frisket.families.shared.flux_key_map import FLUX_2
from frisket.families.shared.flux_tokens import (
    fold,
    from_tokens,
    positions,
    precision,
    to_tokens,
    unfold,
)
from frisket.families.shared.prompt_spans import load_tokenizers
from frisket.families.shared.routes.packed import Flux2Routes
from frisket.families.shared.streams.packed import FluxStreams
from frisket.grid import LatentGrid
from frisket.objectives.shift import SizeShift
from frisket.shapes import Clip, Latents, PerSample

# The VAE's 32 channels at stride 8 are folded 2 x 2 and normalised before anything else sees them,
# so a cell here is 16 pixels wide and one token.
GRID = LatentGrid(channels=128, spatial=16, patch=1)
TOKENS = 512  # of the prompt inside its chat template
AXES = 4  # of a token's position: picture, row, column, place in the text
GUIDANCE = 1.0  # told to dev while training: the field's choice; at sampling it is the user's
STEP_DISTILLED = ("klein-4b", "klein-9b")

# The sampler's law counts the steps: at 1024 x 1024 pixels e^2.02 with 50 of them, falling to
# e^1.15 with 200. That end is FLUX.1's law, and what other trainers train at (musubi's flux2_shift,
# OneTrainer's dynamic shifting): the rest makes up for few sampling steps, and training has none.
SHIFT, SIZE_SHIFT = 3.1582, SizeShift(patch=1)

# What a transformer/config.json of these repositories says beyond diffusers' own defaults.
KLEIN_4B: dict[str, int | bool] = {
    "joint_attention_dim": 7680,
    "num_attention_heads": 24,
    "num_layers": 5,
    "num_single_layers": 20,
    "guidance_embeds": False,
}
KLEIN_9B: dict[str, int | bool] = {
    "joint_attention_dim": 12288,
    "num_attention_heads": 32,
    "num_layers": 8,
    "num_single_layers": 24,
    "guidance_embeds": False,
}
ARCHITECTURES: dict[str, dict[str, int | bool]] = {
    "dev": {"guidance_embeds": True},
    "klein-base-4b": KLEIN_4B,
    "klein-4b": KLEIN_4B,
    "klein-base-9b": KLEIN_9B,
    "klein-9b": KLEIN_9B,
}

DEV = Variant(
    repo="black-forest-labs/FLUX.2-dev",
    grid=GRID,
    height=1024,
    width=1024,
    steps=50,
    guidance=4.0,
    shift=SHIFT,
    size_shift=SIZE_SHIFT,
    negative=False,
    architecture="Flux.2-dev",
)


def _klein(size: str, *, base: bool) -> Variant:
    return replace(
        DEV,
        repo=f"black-forest-labs/FLUX.2-klein-{'base-' if base else ''}{size}",
        steps=50 if base else 4,
        guidance=4.0 if base else 1.0,
        negative=base,
        architecture=f"Flux.2-klein-{size.lower()}",
        like="" if base and size == "4B" else "klein-base-4b",
    )


logger = logging.getLogger(__name__)


class Flux2(Standard):
    """The family; see `frisket.families.base.Family` for the contract."""

    name = "flux2"
    aliases: tuple[str, ...] = ("flux-2", "flux2")
    streams = FluxStreams(side=1)  # FLUX.2's latents are folded already
    routes = Flux2Routes()
    lora_prefix = "transformer"
    names = FLUX_2
    # `to_out` is a layer in the single blocks only, where attention and MLP come out together; in
    # the double blocks it is `to_out.0`. The text stream learns to its end, as in FLUX.1.
    lora_presets: Mapping[str, tuple[str, ...]] = presets(mlp=r"[.]ff|mlp")
    lora_targets: tuple[str, ...] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "add_q_proj",
        "add_k_proj",
        "add_v_proj",
        "to_add_out",
        "ff.linear_in",
        "ff.linear_out",
        "ff_context.linear_in",
        "ff_context.linear_out",
        "to_qkv_mlp_proj",
        "to_out",
    )
    # BFL recommend klein base or dev for training; a LoRA made on klein base works on klein.
    variants: Mapping[str, Variant] = {
        "dev": DEV,
        "klein-base-4b": _klein("4B", base=True),
        "klein-4b": _klein("4B", base=False),
        "klein-base-9b": _klein("9B", base=True),
        "klein-9b": _klein("9B", base=False),
    }

    def load_vae(self, source: Source) -> nn.Module:
        """Load `vae/` with the statistics that normalise its latents."""
        repo = self.variants[source.variant].repo
        vae = weights.load(
            AutoencoderKLFlux2, source, repo, "vae", torch_dtype=source.dtype, use_safetensors=True
        )
        weights.expect(
            vae.config,
            {"latent_channels": GRID.channels // 4},
            where=source.path or repo,
            what="a FLUX.2 VAE",
        )
        return weights.freeze(vae, source)

    def load_text(self, source: Source) -> nn.Module:
        """Load `tokenizer/` and `text_encoder/`: Mistral 3 (48 GB in bfloat16) or Qwen 3.

        dev's tokenizer is taken out of the processor it is released in: that one is for pictures
        in the prompt and needs torchvision; texts come out alike, the template is the tokenizer's.
        """
        repo = self.variants[source.variant].repo
        kind = Mistral3ForConditionalGeneration if source.variant == "dev" else Qwen3ForCausalLM
        options = {"torch_dtype": source.dtype, "use_safetensors": True}
        text = FluxText(
            source.variant,
            tokenizer=weights.load(AutoTokenizer, source, repo, "tokenizer"),
            text_encoder=weights.load(kind, source, repo, "text_encoder", **options),
        )
        return weights.freeze(text, source)

    def load_tokenizer(self, source: Source) -> nn.Module:
        """Load `tokenizer/` alone, no encoder: `read_spans` needs no more."""
        repo = self.variants[source.variant].repo
        return FluxText(source.variant, **load_tokenizers(source, repo, "tokenizer"))

    def load_denoiser(self, source: Source) -> nn.Module:
        """Load `transformer/`, or one .safetensors file with diffusers' or the original's names."""
        repo = self.variants[source.variant].repo
        architecture = ARCHITECTURES[source.variant]
        model: Any = weights.denoiser(
            Flux2Transformer2DModel, source, repo, architecture=architecture
        )
        expected_config = {"patch_size": 1, "in_channels": GRID.channels}
        weights.expect(
            model.config,
            {**expected_config, "guidance_embeds": architecture["guidance_embeds"]},
            where=source.path or repo,
            what=f"a FLUX.2 {source.variant} transformer",
        )
        return weights.freeze(model, source)

    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """Posterior mode, folded 2 x 2, then (z - mean) / sqrt(variance + eps) per channel.

        The statistics are those of the VAE's batch norm, as in Flux2Pipeline; float32.
        """
        GRID.cells(*clip.shape[2:])
        mean, std = _statistics(vae)
        folded = fold(encode_kl(vae, clip, 1.0))
        return (folded - mean) / std

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The inverse of `encode`, float32."""
        mean, std = _statistics(vae)
        return decode_kl(vae, unfold(latents.to(mean.device).float() * std + mean), 1.0)

    @torch.no_grad()
    def embed(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> Conditioning:
        """`text` b 512 d: three hidden layers side by side, as the public pipeline stacks them.

        Layers 10, 20, 30 of Mistral 3 (dev), 9, 18, 27 of Qwen 3 (klein). The model attends to the
        padding too, so there is no mask. A prompt whose chat template passes 512 tokens is cut
        there, as upstream does; a warning names it.
        """
        assert isinstance(text, FluxText)
        for prompt in prompts:
            length = text.count_tokens(prompt)
            if length > TOKENS:
                logger.warning("%d tokens cut to %d: %.60s...", length, TOKENS, prompt)
        kind = Flux2Pipeline if text.mistral else Flux2KleinPipeline
        pipeline: Any = kind(**text.parts(), vae=None, scheduler=None, transformer=None)
        embeds, _ = pipeline.encode_prompt(list(prompts), max_sequence_length=TOKENS)
        return {"text": embeds}

    def read_spans(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> list[Spans]:
        """512 positions a prompt; those of its chat template are None."""
        assert isinstance(text, FluxText)
        return [text.find_spans(prompt, TOKENS) for prompt in prompts]

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The velocity noise - clean, float32; the model is told t, and dev guidance 1.

        t is handed over in float32; the transformer itself rounds 1000 t to its own precision,
        while it samples as well as here.
        """
        device, dtype = noisy.device, precision(denoiser)
        rows, columns = noisy.shape[3:]
        text = conditioning["text"].to(device, dtype)
        places = torch.zeros(text.shape[1], AXES, device=device)
        places[:, 3] = torch.arange(text.shape[1], device=device)
        guidance = torch.full((len(noisy),), GUIDANCE, device=device)
        velocity: Tensor = denoiser(
            hidden_states=to_tokens(noisy.to(dtype)),
            timestep=t.to(device, torch.float32),
            guidance=guidance if first(denoiser).config.guidance_embeds else None,
            encoder_hidden_states=text,
            txt_ids=places,
            img_ids=positions(rows, columns, AXES).to(device),
            return_dict=False,
        )[0]
        return from_tokens(velocity.float(), rows, columns)

    def pipeline(self, parts: Parts) -> Any:
        """Flux2Pipeline or Flux2KleinPipeline, Euler steps on the flow.

        `parts.text` may be None where prompt embeddings are passed in. Sampling shifts its levels
        with the size of the picture and the number of steps.
        """
        scheduler = FlowMatchEulerDiscreteScheduler(
            shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15
        )
        models = {
            **parts_of(parts.text, "tokenizer", "text_encoder"),
            "vae": parts.vae,
            "scheduler": scheduler,
            "transformer": parts.denoiser,
        }
        if parts.variant == "dev":
            return Flux2Pipeline(**models)
        return Flux2KleinPipeline(**models, is_distilled=parts.variant in STEP_DISTILLED)

    def call(
        self,
        variant: str,
        positive: Conditioning,
        negative: Conditioning | None,
        *,
        guidance: float,
        references: References = (),
    ) -> dict[str, Any]:
        """Embeddings by the pipeline's names.

        `guidance` is what dev is told, classifier-free guidance for klein base (1, which is off,
        without a negative), and nothing to klein. The pipeline draws its noise in the embeddings'
        dtype, so they must come in the denoiser's.
        """
        call: dict[str, Any] = {"prompt_embeds": positive["text"], "guidance_scale": guidance}
        if self.variants[variant].negative:
            if negative is None:
                return call | {"guidance_scale": 1.0}
            call["negative_prompt_embeds"] = negative["text"]
        return call

    def tiny(self, variant: str) -> Parts:
        """Two double and two single blocks, 16 channels wide, narrow text encoders; seeded."""
        with tiny.seed_torch():
            vae = tiny.kl_vae(AutoencoderKLFlux2, 32)
            vae.bn.running_mean.normal_()
            vae.bn.running_var.uniform_(0.5, 2.0)
            text = make_tiny_mistral() if variant == "dev" else make_tiny_qwen()
            denoiser = Flux2Transformer2DModel(
                num_layers=2,
                num_single_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=48,
                axes_dims_rope=(2, 2, 2, 2),
                guidance_embeds=bool(ARCHITECTURES[variant]["guidance_embeds"]),
            )
        return Parts(variant, *tiny.quiet(vae, text, denoiser))


def _statistics(vae: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each folded channel, 1 128 1 1 1, float32."""
    flux: Any = vae
    mean: Tensor = flux.bn.running_mean.float()
    variance: Tensor = flux.bn.running_var.float()
    std = torch.sqrt(variance + flux.config.batch_norm_eps)
    return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)


FAMILY: Family = Flux2()
