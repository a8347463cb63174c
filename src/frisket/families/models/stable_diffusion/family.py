"""The Stable Diffusion family: UNets that predict the noise or v (SD 1.5, SDXL, SDXL with v)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import AutoTokenizer

from frisket.attention.tokens import Spans
from frisket.families import tiny, weights
from frisket.families.base import (
    Conditioning,
    Family,
    Parts,
    References,
    Source,
    Variant,
)
from frisket.families.defaults import Standard, decode_kl, encode_kl, parts_of
from frisket.families.experts import first
from frisket.families.key_map import Names
from frisket.families.models.stable_diffusion.key_map import CONVOLUTIONS, PRESETS, rows
from frisket.families.shared import sd_files
from frisket.families.shared.clip_prompts import (
    LONGEST,
    ClipText,
    embed_chunks,
    find_clip_spans,
    tell_cut,
)
from frisket.families.shared.prompt_spans import load_tokenizers
from frisket.families.shared.sd_files import ARCHITECTURES, DOWN, ENCODERS, SCALES, UP, VAES
from frisket.families.shared.streams.unet import UNetStreams
from frisket.grid import LatentGrid
from frisket.objectives.epsilon import BETAS, LEVELS, Epsilon, timestep
from frisket.objectives.kinds import LevelWeighting
from frisket.objectives.timesteps import TimestepSampler
from frisket.shapes import Clip, Latents, PerSample

LENGTH = 77
RESCALE = 0.7  # of guidance at zero terminal SNR (Lin et al. 2023, section 3.4)
SGM = Names(rows([False, True, True]), comfyui="kohya")
XL = LatentGrid(channels=4, spatial=8, patch=4)  # two downsamplings: sides of 32 pixels
SDXL = Variant(
    repo="stabilityai/stable-diffusion-xl-base-1.0",
    grid=XL,
    height=1024,
    width=1024,
    density="uniform",
    max_tokens=LONGEST,
    architecture="stable-diffusion-xl-v1-base",
    aliases=("sdxl", "sd-xl", "stable-diffusion-xl"),
    names=SGM,
)


def _kind(variant: str) -> str:
    return "sd15" if variant == "sd15" else "sdxl"


class StableDiffusion(Standard):
    """The family; see `frisket.families.base.Family` for the contract.

    `sdxl-v` is for checkpoints finetuned to v with zero terminal SNR (NoobAI-XL V-Pred and its
    kin); give another one of them as `model.source`.
    """

    name = "stable_diffusion"
    streams = UNetStreams()
    lora_prefix = "unet"
    # kohya's trainer works on diffusers' UNet for SD 1.5 and on the authors' own for SDXL, and
    # its files are what everybody reads: SDXL has a table of its own. The authors' names for SD 1.5
    # are read as well, since ComfyUI does.
    names = Names(comfyui="kohya", also=rows([True, True, True, False]))
    lora_conv: tuple[str, ...] = CONVOLUTIONS
    lora_presets: Mapping[str, tuple[str, ...]] = PRESETS
    lora_targets: tuple[str, ...] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "ff.net.0.proj",
        "ff.net.2",
        "proj_in",
        "proj_out",
    )
    variants: Mapping[str, Variant] = {
        "sd15": Variant(
            repo="stable-diffusion-v1-5/stable-diffusion-v1-5",
            grid=LatentGrid(channels=4, spatial=8, patch=8),
            guidance=7.5,
            density="uniform",
            clip_skip=True,
            max_tokens=LONGEST,
            architecture="stable-diffusion-v1",
            aliases=(
                *("sd-v1", "sd-1", "sd1", "sd15"),
                *("stable-diffusion-v1", "stable-diffusion-1"),
            ),
        ),
        "sdxl": SDXL,
        "sdxl-v": replace(SDXL, repo="Laxhar/noobai-XL-Vpred-1.0", like="sdxl", aliases=()),
    }

    def objective(
        self,
        variant: str,
        timesteps: TimestepSampler | None = None,
        *,
        weighting: LevelWeighting = "none",
        min_snr: float = 0.0,
    ) -> Epsilon:
        """The noise, or v with zero terminal SNR; without a sampler every level as often."""
        v = variant == "sdxl-v"
        return Epsilon(
            "v" if v else "epsilon", timesteps, min_snr, zero_terminal_snr=v, weighting=weighting
        )

    def load_vae(self, source: Source) -> nn.Module:
        """Load `vae/`, or the VAE in a single file that has one."""
        repo, kind = self.variants[source.variant].repo, _kind(source.variant)
        if sd_files.holds(source, *sd_files.VAE):
            plain = replace(source, quantise="none")  # of the denoiser
            vae = weights.denoiser(AutoencoderKL, plain, repo, "vae", architecture=VAES[kind])
        else:
            options = {"torch_dtype": source.dtype, "use_safetensors": True}
            vae = weights.load(AutoencoderKL, source, repo, "vae", **options)
        weights.expect(
            vae.config,
            {"latent_channels": 4, "scaling_factor": SCALES[kind]},
            where=source.path or repo,
            what=f"a VAE of {source.variant}",
        )
        return weights.freeze(vae, source)

    def load_text(self, source: Source) -> nn.Module:
        """Load one CLIP encoder and tokenizer, or SDXL's two (1.6 GB in bfloat16).

        From a single file too, with `tokenizer/` (and `tokenizer_2/`) beside it.
        """
        repo, encoders = self.variants[source.variant].repo, ENCODERS[_kind(source.variant)]
        file = sd_files.holds(source, *(prefix for prefix, _, _ in encoders.values()))
        if file is not None:
            parts = sd_files.text_encoders(file, source, repo, encoders)
            return weights.freeze(ClipText(source, **parts), source)
        parts = {}
        for name, (_, kind, _) in encoders.items():
            tokenizer = name.replace("text_encoder", "tokenizer")
            parts[tokenizer] = weights.load(AutoTokenizer, source, repo, tokenizer)
            options = {"torch_dtype": source.dtype, "use_safetensors": True}
            parts[name] = weights.load(kind, source, repo, name, **options)
        return weights.freeze(ClipText(source, **parts), source)

    def load_tokenizer(self, source: Source) -> nn.Module:
        """Load `tokenizer/`, and SDXL's `tokenizer_2/`."""
        repo, encoders = self.variants[source.variant].repo, ENCODERS[_kind(source.variant)]
        names = [name.replace("text_encoder", "tokenizer") for name in encoders]
        return ClipText(source, **load_tokenizers(source, repo, *names))

    def load_denoiser(self, source: Source) -> nn.Module:
        """Load `unet/`, or the UNet of a single file in diffusers' or the authors' names."""
        repo, kind = self.variants[source.variant].repo, _kind(source.variant)
        model: Any = weights.denoiser(
            UNet2DConditionModel, source, repo, "unet", architecture=ARCHITECTURES[kind]
        )
        weights.expect(
            {**model.config, "down_block_types": list(model.config.down_block_types)},
            {
                "in_channels": 4,  # 9 are an inpainting model's
                "down_block_types": DOWN[kind],
                "use_linear_projection": kind == "sdxl",  # SD 2 has SD 1.5's blocks, but this
            },
            where=source.path or repo,
            what=f"a UNet of {source.variant}",
        )
        return weights.freeze(model, source)

    @torch.no_grad()
    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """Posterior mode times the VAE's scaling factor; float32."""
        kl: Any = vae
        with _upcast(vae):
            return encode_kl(vae, clip, kl.config.scaling_factor)

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The inverse of `encode`, float32."""
        kl: Any = vae
        with _upcast(vae):
            return decode_kl(vae, latents, kl.config.scaling_factor)

    @torch.no_grad()
    def embed(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> Conditioning:
        """`text` b 77 d, and for SDXL `pooled` b 1280: what the pipelines' encode_prompt returns.

        With `max_tokens` 150 or 225 `text` is b 152 or 227 d; see `sd_prompts.embed_chunks` for
        that and for `clip_skip`. Longer prompts are cut there; a warning names them.
        """
        assert isinstance(text, ClipText)
        tell_cut(text, prompts)
        if text.reads_otherwise:
            return embed_chunks(text, prompts)
        device = next(text.parameters()).device
        if "text_encoder_2" not in text.names:
            single: Any = _sd15(Parts("sd15", text=text), None)
            embeds, _ = single.encode_prompt(list(prompts), device, 1, False)
            return {"text": embeds}
        double: Any = _sdxl(Parts("sdxl", text=text), None)
        embeds, _, pooled, _ = double.encode_prompt(
            list(prompts), device=device, do_classifier_free_guidance=False
        )
        return {"text": embeds, "pooled": pooled}

    def read_spans(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> list[Spans]:
        """77 positions a prompt, or 75 for each piece of a longer one, a begin and an end."""
        assert isinstance(text, ClipText)
        return find_clip_spans(text, prompts)

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The noise or v, float32; the model is told the level, an integer from 0 to 999.

        SDXL is told besides that the picture was as large as it is and was not cropped.
        """
        dtype = first(denoiser).conv_in.weight.dtype  # `denoiser.dtype` walks all modules
        device = noisy.device
        added: dict[str, Tensor] | None = None
        if "pooled" in conditioning:
            height, width = (XL.spatial * side for side in noisy.shape[-2:])
            sizes = torch.tensor([height, width, 0, 0, height, width], device=device)
            added = {
                "text_embeds": conditioning["pooled"].to(device, dtype),
                # float32: bfloat16 would round sides over 256 pixels.
                "time_ids": sizes.float().expand(len(noisy), -1),
            }
        predicted: Tensor = denoiser(
            noisy.squeeze(2).to(dtype),
            timestep(t).to(device),
            encoder_hidden_states=conditioning["text"].to(device, dtype),
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        return predicted.float().unsqueeze(2)

    def pipeline(self, parts: Parts) -> Any:
        """The public pipeline with DDIM over the levels that the model was trained on.

        The released checkpoints name PNDM and Euler. DDIM walks the same schedule, but starts from
        plain noise and hands the UNet its latents as they are, where Euler scales both.
        """
        v = parts.variant == "sdxl-v"
        scheduler = DDIMScheduler(
            num_train_timesteps=LEVELS,
            beta_start=BETAS[0],
            beta_end=BETAS[1],
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type="v_prediction" if v else "epsilon",
            rescale_betas_zero_snr=v,
            timestep_spacing="trailing" if v else "leading",
        )
        return (_sd15 if _kind(parts.variant) == "sd15" else _sdxl)(parts, scheduler)

    def call(
        self,
        variant: str,
        positive: Conditioning,
        negative: Conditioning | None,
        *,
        guidance: float,
        references: References = (),
    ) -> dict[str, Any]:
        """Embeddings by the pipelines' names; guidance of `sdxl-v` is rescaled by 0.7."""
        kwargs: dict[str, Any] = {
            "prompt_embeds": positive["text"],
            "negative_prompt_embeds": None if negative is None else negative["text"],
            "guidance_scale": 1.0 if negative is None else guidance,
        }
        if "pooled" in positive:
            kwargs["pooled_prompt_embeds"] = positive["pooled"]
            other = None if negative is None else negative["pooled"]
            kwargs["negative_pooled_prompt_embeds"] = other
        if variant == "sdxl-v":
            kwargs["guidance_rescale"] = RESCALE
        return kwargs

    def tiny(self, variant: str) -> Parts:
        """The released blocks with 8 or 16 channels, an 8-channel VAE, byte tokenizers; seeded."""
        return self.rehearsal_parts(Source(variant))

    def rehearsal_parts(self, source: Source) -> Parts:
        """As `tiny`; prompts are read as the source asks."""
        variant, kind = source.variant, _kind(source.variant)
        xl = kind == "sdxl"
        with tiny.seed_torch():
            vae = tiny.kl_vae(AutoencoderKL, 4, scaling_factor=SCALES[kind])
            text: dict[str, Any] = {
                "tokenizer": tiny.tokenizer(LENGTH, begin=True),
                "text_encoder": tiny.clip_text(16),
            }
            options: dict[str, Any] = {"layers_per_block": 1, "cross_attention_dim": 16}
            if xl:
                text["tokenizer_2"] = tiny.tokenizer(LENGTH, begin=True)
                text["text_encoder_2"] = tiny.clip_text(16, projection=16)
                options = {
                    "addition_embed_type": "text_time",
                    "addition_time_embed_dim": 8,
                    "cross_attention_dim": 32,
                    "projection_class_embeddings_input_dim": 16 + 6 * 8,
                    "use_linear_projection": True,
                }
            denoiser = UNet2DConditionModel(
                sample_size=16,
                block_out_channels=[8, 8, 16] if xl else [8, 8, 8, 8],
                attention_head_dim=4,
                norm_num_groups=4,
                down_block_types=DOWN[kind],
                up_block_types=UP[kind],
                **options,
            )
        return Parts(variant, *tiny.quiet(vae, ClipText(source, **text), denoiser))

    def conditioning_widths(self, config: Mapping[str, Any]) -> dict[str, int]:
        """And of `pooled`, SDXL's second text: its configuration has that with six sizes beside."""
        widths = super().conditioning_widths(config)
        size, whole = "addition_time_embed_dim", "projection_class_embeddings_input_dim"
        if size in widths and whole in widths:
            widths["pooled"] = widths[whole] - 6 * widths[size]
        return widths


def _sd15(parts: Parts, scheduler: Any) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        **parts_of(parts.text, "tokenizer", "text_encoder"),
        vae=parts.vae,
        unet=parts.denoiser,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl(parts: Parts, scheduler: Any) -> StableDiffusionXLPipeline:
    names = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
    return StableDiffusionXLPipeline(
        **parts_of(parts.text, *names),
        vae=parts.vae,
        unet=parts.denoiser,
        scheduler=scheduler,
        add_watermarker=False,
    )


@contextmanager
def _upcast(vae: nn.Module) -> Iterator[None]:
    """Float32 inside for a float16 VAE whose configuration asks for it (its sums overflow)."""
    dtype = next(vae.parameters()).dtype
    kl: Any = vae
    upcast = dtype == torch.float16 and kl.config.force_upcast
    if upcast:
        vae.float()
    try:
        yield
    finally:
        if upcast:
            vae.to(dtype)


FAMILY: Family = StableDiffusion()
