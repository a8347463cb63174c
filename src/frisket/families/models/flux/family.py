"""The FLUX.1 family: 12B rectified-flow transformers, guidance-distilled (dev, Krea, Kontext)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPTextModel, T5EncoderModel

from frisket.attention.base import name_samples
from frisket.attention.tokens import Spans
from frisket.families import tiny, weights
from frisket.families.base import Conditioning, Family, Parts, References, Source, Variant
from frisket.families.defaults import Standard, TextBundle, decode_kl, encode_kl, parts_of
from frisket.families.experts import first
from frisket.families.models.flux import kontext
from frisket.families.presets import presets
from frisket.families.shared.flux_key_map import FLUX_1
from frisket.families.shared.flux_tokens import (
    fold,
    from_tokens,
    positions,
    precision,
    to_tokens,
    unfold,
)
from frisket.families.shared.prompt_spans import load_tokenizers, read_prompts
from frisket.families.shared.routes.packed import FluxRoutes
from frisket.families.shared.streams.packed import FluxStreams
from frisket.grid import LatentGrid
from frisket.objectives.shift import FLUX
from frisket.shapes import Clip, Latents, PerSample, Plane

GRID = LatentGrid(channels=16, spatial=8, patch=2)
TOKENS = {"schnell": 256}  # T5 tokens a variant was trained with; the others have 512
REFERENCE, SIZE = "reference", "reference_size"  # tokens b n 64, and their rows and columns b 2
GUIDANCE = 1.0  # told while training: the field's choice; at sampling it is the user's

# FLUX samples with a shift that grows with the picture (objectives.shift.FLUX), exp(0.5) at 256 x
# 256 pixels to exp(1.15) at 1024 x 1024. The field trains at either that (kohya's
# --timestep_sampling flux_shift) or the fixed value for 1024 x 1024 (--discrete_flow_shift 3.1582).
SHIFT = 3.1582

# What a transformer/config.json of these repositories says beyond diffusers' own defaults.
ARCHITECTURES: dict[str, dict[str, bool]] = {
    "dev": {"guidance_embeds": True},
    "krea-dev": {"guidance_embeds": True},
    "kontext": {"guidance_embeds": True},
    "schnell": {"guidance_embeds": False},
}

DEV = Variant(
    repo="black-forest-labs/FLUX.1-dev",
    grid=GRID,
    height=1024,
    width=1024,
    steps=28,
    guidance=3.5,
    shift=SHIFT,
    size_shift=FLUX,
    negative=False,
    architecture="Flux.1-dev",
)

logger = logging.getLogger(__name__)


class FluxEncoders(TextBundle):
    """CLIP and T5, and how many tokens of a prompt T5 is to read."""

    def __init__(self, variant: str, **parts: Any) -> None:
        """Hold the parts under FluxPipeline's names."""
        super().__init__(**parts)
        self.length = TOKENS.get(variant, 512)


class Flux(Standard):
    """The family; see `frisket.families.base.Family` for the contract."""

    name = "flux"
    aliases: tuple[str, ...] = ("flux",)
    streams = FluxStreams()
    routes = FluxRoutes()
    lora_prefix = "transformer"
    names = FLUX_1
    # kohya's and ai-toolkit's layers without the modulation. The last double block's text stream
    # goes on into the single blocks, so it learns too: nothing is dead.
    lora_presets: Mapping[str, tuple[str, ...]] = presets(mlp=r"ff[.]net|proj_mlp")
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
        "proj_mlp",
        r"/^single_transformer_blocks\.\d+\.proj_out$/",  # plain proj_out is the model's head too
    )
    variants: Mapping[str, Variant] = {
        "dev": DEV,
        "krea-dev": replace(
            DEV, repo="black-forest-labs/FLUX.1-Krea-dev", guidance=4.5, like="dev"
        ),
        "schnell": replace(
            DEV,
            repo="black-forest-labs/FLUX.1-schnell",
            steps=4,
            guidance=0.0,
            shift=1.0,
            size_shift=None,
            architecture="Flux.1-schnell",
        ),
        "kontext": replace(
            DEV, repo="black-forest-labs/FLUX.1-Kontext-dev", guidance=2.5, sees="pictures"
        ),
    }

    def load_vae(self, source: Source) -> nn.Module:
        """Load `vae/` (16 channels, scale 0.3611, shift 0.1159)."""
        repo = self.variants[source.variant].repo
        vae = weights.load(
            AutoencoderKL, source, repo, "vae", torch_dtype=source.dtype, use_safetensors=True
        )
        weights.expect(
            vae.config,
            {"latent_channels": GRID.channels, "scaling_factor": 0.3611, "shift_factor": 0.1159},
            where=source.path or repo,
            what="a FLUX.1 VAE",
        )
        return weights.freeze(vae, source)

    def load_text(self, source: Source) -> nn.Module:
        """Load CLIP-L and T5-XXL (9.5 GB in bfloat16) with their tokenizers."""
        repo = self.variants[source.variant].repo
        options = {"torch_dtype": source.dtype, "use_safetensors": True}
        text = FluxEncoders(
            source.variant,
            tokenizer=weights.load(AutoTokenizer, source, repo, "tokenizer"),
            tokenizer_2=weights.load(AutoTokenizer, source, repo, "tokenizer_2"),
            text_encoder=weights.load(CLIPTextModel, source, repo, "text_encoder", **options),
            text_encoder_2=weights.load(T5EncoderModel, source, repo, "text_encoder_2", **options),
        )
        return weights.freeze(text, source)

    def load_tokenizer(self, source: Source) -> nn.Module:
        """Load T5's, `tokenizer_2/`: CLIP's summary has no positions."""
        repo = self.variants[source.variant].repo
        return FluxEncoders(source.variant, **load_tokenizers(source, repo, "tokenizer_2"))

    def load_denoiser(self, source: Source) -> nn.Module:
        """Load `transformer/`, or one .safetensors file with diffusers' or the original's names.

        ValueError for Fill, Depth and Canny (their input has more channels), for a dev file as
        schnell and the reverse.
        """
        repo = self.variants[source.variant].repo
        architecture = ARCHITECTURES[source.variant]
        model: Any = weights.denoiser(
            FluxTransformer2DModel, source, repo, architecture=architecture
        )
        weights.expect(
            model.config,
            {"patch_size": 1, "in_channels": 4 * GRID.channels, **architecture},
            where=source.path or repo,
            what=f"a FLUX.1 {source.variant} transformer",
        )
        return weights.freeze(model, source)

    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """Posterior mode, (z - shift) * scale; float32, as FluxKontextPipeline encodes."""
        GRID.cells(*clip.shape[2:])
        return encode_kl(vae, clip, *_normal(vae))

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The inverse of `encode`, float32."""
        return decode_kl(vae, latents, *_normal(vae))

    @torch.no_grad()
    def embed(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> Conditioning:
        """`text` b n d of T5 (n = 512, schnell 256) and `pooled` b d of CLIP, as FluxPipeline does.

        FLUX attends to the padding too, so there is no mask. Prompts over n tokens are cut there,
        as upstream does; a warning names them. CLIP's summary is of the first 77 tokens.
        """
        assert isinstance(text, FluxEncoders)
        tokenizer: Any = text.tokenizer_2
        lengths = [len(ids) for ids in tokenizer(list(prompts)).input_ids]
        for prompt, length in zip(prompts, lengths, strict=True):
            if length > text.length:
                logger.warning("%d tokens cut to %d: %.60s...", length, text.length, prompt)
        pipeline: Any = FluxPipeline(**text.parts(), vae=None, scheduler=None, transformer=None)
        embeds, pooled, _ = pipeline.encode_prompt(list(prompts), max_sequence_length=text.length)
        return {"text": embeds, "pooled": pooled}

    @torch.no_grad()
    def image_conditioning(
        self,
        vae: nn.Module,
        vision: nn.Module | None,
        clip: Clip,
        references: Sequence[Tensor] = (),  # not References: their H and W are not the clip's
        keep: Plane | None = None,
    ) -> Conditioning:
        """Kontext's reference picture as tokens `reference` 1 n 64, and its rows and columns.

        The size is `flux_kontext.fit`'s; ValueError for more than one picture. {} without one.
        """
        if not references:
            return {}
        picture = kontext.pixels(kontext.fit(references))
        folded = fold(self.encode(vae, picture[:, :, None]))
        return {REFERENCE: to_tokens(folded), SIZE: torch.tensor([folded.shape[3:]])}

    def read_spans(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> list[Spans]:
        """T5's 512 positions a prompt (schnell: 256)."""
        assert isinstance(text, FluxEncoders)
        return read_prompts(text.tokenizer_2, prompts, text.length)

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The velocity noise - clean, float32; the model is told t and guidance 1 (not schnell).

        Reference tokens follow the picture's own, and what is predicted for them is cut off.
        t is handed over in float32; the transformer itself rounds 1000 t to its own precision,
        while it samples as well as here.
        """
        if REFERENCE not in conditioning:
            return _velocity(denoiser, noisy, t, conditioning, (0, 0))
        # The transformer takes one set of positions a call: reference pictures of one size.
        sizes = [(rows, columns) for rows, columns in conditioning[SIZE].tolist()]
        if len(set(sizes)) == 1:
            return _velocity(denoiser, noisy, t, conditioning, sizes[0])
        output = torch.zeros_like(noisy, dtype=torch.float32)
        for size in dict.fromkeys(sizes):
            of = torch.tensor([shape == size for shape in sizes], device=noisy.device)
            subset = {name: value[of.to(value.device)] for name, value in conditioning.items()}
            with name_samples(of.nonzero()[:, 0].tolist()):
                some = _velocity(denoiser, noisy[of], t[of.to(t.device)], subset, size)
            output = output.masked_scatter(of.view(-1, 1, 1, 1, 1), some)
        return output

    def pipeline(self, parts: Parts) -> Any:
        """FluxPipeline (Kontext's keeps the size asked for), Euler steps on the flow.

        `parts.text` may be None where prompt embeddings are passed in. Sampling shifts its levels
        with the size of the picture; schnell's are not shifted.
        """
        scheduler = FlowMatchEulerDiscreteScheduler(
            shift=1.0 if parts.variant == "schnell" else 3.0,
            use_dynamic_shifting=parts.variant != "schnell",
            base_shift=0.5,
            max_shift=1.15,
        )
        kind = kontext.FluxKontextPipeline if parts.variant == "kontext" else FluxPipeline
        names = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
        return kind(
            **parts_of(parts.text, *names),
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
        """Embeddings by FluxPipeline's names; `guidance` is the one the model is told.

        The pipeline draws its noise in the embeddings' dtype and converts nothing, so they must
        come in the denoiser's. There is no negative prompt.
        """
        call: dict[str, Any] = {
            "prompt_embeds": positive["text"],
            "pooled_prompt_embeds": positive["pooled"],
            "guidance_scale": guidance,
        }
        if variant == "kontext" and references:
            call |= {"image": kontext.fit(references), "_auto_resize": False}
        return call

    def tiny(self, variant: str) -> Parts:
        """Two double and two single blocks, 16 channels wide, and byte tokenizers; seeded."""
        with tiny.seed_torch():
            vae = tiny.kl_vae(AutoencoderKL, 16, scaling_factor=0.3611, shift_factor=0.1159)
            text = FluxEncoders(
                variant,
                tokenizer=tiny.tokenizer(77, begin=True),
                tokenizer_2=tiny.tokenizer(512),
                text_encoder=tiny.clip_text(),
                text_encoder_2=tiny.t5(),
            )
            denoiser = FluxTransformer2DModel(
                num_layers=2,
                num_single_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=32,
                pooled_projection_dim=32,
                axes_dims_rope=(2, 2, 4),
                guidance_embeds=ARCHITECTURES[variant]["guidance_embeds"],
            )
        return Parts(variant, *tiny.quiet(vae, text, denoiser))


def _normal(vae: nn.Module) -> tuple[float, float]:
    config: Any = vae.config
    return config.scaling_factor, config.shift_factor


def _velocity(
    denoiser: nn.Module,
    noisy: Latents,
    t: PerSample,
    conditioning: Conditioning,
    size: tuple[int, int],
) -> Latents:
    """One call of the transformer; `size` is that of the reference tokens of every sample."""
    device, dtype = noisy.device, precision(denoiser)
    folded = fold(noisy.to(dtype))
    rows, columns = folded.shape[3:]
    tokens, ids = to_tokens(folded), positions(rows, columns, 3)
    count = tokens.shape[1]
    if size != (0, 0):
        shown = conditioning[REFERENCE][:, : size[0] * size[1]]
        tokens = torch.cat([tokens, shown.to(device, dtype)], 1)
        ids = torch.cat([ids, positions(*size, 3, index=1)])
    text = conditioning["text"].to(device, dtype)
    guidance = torch.full((len(noisy),), GUIDANCE, device=device)
    velocity: Tensor = denoiser(
        hidden_states=tokens,
        timestep=t.to(device, torch.float32),
        guidance=guidance if first(denoiser).config.guidance_embeds else None,
        pooled_projections=conditioning["pooled"].to(device, dtype),
        encoder_hidden_states=text,
        txt_ids=torch.zeros(text.shape[1], 3, device=device),
        img_ids=ids.to(device),
        return_dict=False,
    )[0]
    return unfold(from_tokens(velocity[:, :count].float(), rows, columns))


FAMILY: Family = Flux()
