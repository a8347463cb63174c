"""The Wan family: text-to-video diffusion transformers over a causal video VAE (Wan 2.1 T2V)."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from frisket.families import weights
from frisket.families.base import Conditioning, Family, Parts, Source, Variant
from frisket.grid import LatentGrid
from frisket.objectives.flow import Flow
from frisket.objectives.timesteps import TimestepSampler
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


class WanText(nn.Module):
    """Tokenizer and UMT5 encoder as one module."""

    def __init__(self, tokenizer: Any, encoder: UMT5EncoderModel) -> None:
        """Hold the two; only the encoder has weights."""
        super().__init__()
        self.tokenizer = tokenizer
        self.encoder = encoder


class Wan:
    """The family; see `frisket.families.base.Family` for the contract."""

    name = "wan"
    lora_prefix = "transformer"  # of the keys in a saved adapter, as WanPipeline reads them
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

    def objective(self, variant: str, timesteps: TimestepSampler | None = None) -> Flow:
        """Rectified flow, logit-normal t pushed towards noise by the variant's shift."""
        return Flow(timesteps or TimestepSampler(shift=self.variants[variant].shift))

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
        return weights.freeze(WanText(tokenizer, encoder), source)

    def load_denoiser(self, source: Source) -> nn.Module:
        """Load `transformer/`, or one .safetensors file with diffusers' or the original's names."""
        repo = self.variants[source.variant].repo
        file = weights.local(source)
        if file is not None and file.is_file():
            model: Any = _single_file(file, source)
        else:
            model = weights.load(
                WanTransformer3DModel,
                source,
                repo,
                "transformer",
                torch_dtype=source.dtype,
                use_safetensors=True,
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
    def embed(self, text: nn.Module, prompts: Sequence[str]) -> Conditioning:
        """`text` b 512 d: what WanPipeline.encode_prompt returns, zero after the prompt's end.

        Prompts over 512 tokens are cut there, as upstream does; a warning names them.
        """
        assert isinstance(text, WanText)
        lengths = [len(ids) for ids in text.tokenizer(list(prompts)).input_ids]
        for prompt, length in zip(prompts, lengths, strict=True):
            if length > TOKENS:
                logger.warning("%d tokens cut to %d: %.60s...", length, TOKENS, prompt)
        pipeline: Any = WanPipeline(text.tokenizer, text.encoder, vae=None, scheduler=None)
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
        text = parts.text
        assert text is None or isinstance(text, WanText)
        return WanPipeline(
            tokenizer=None if text is None else text.tokenizer,
            text_encoder=None if text is None else text.encoder,
            vae=parts.vae,
            scheduler=scheduler,
            transformer=parts.denoiser,
        )

    def tiny(self, variant: str) -> Parts:
        """Two layers, 24 channels wide, a 10-channel VAE and a byte tokenizer; seeded."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # torch.manual_seed would reseed CUDA as well
            vae = AutoencoderKLWan(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
            tokenizer = _byte_tokenizer()
            settings = UMT5Config(
                vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4
            )
            encoder = UMT5EncoderModel(settings)
            denoiser = WanTransformer3DModel(
                num_attention_heads=2,
                attention_head_dim=12,
                text_dim=32,
                freq_dim=32,
                ffn_dim=32,
                num_layers=2,
                rope_max_seq_len=64,
            )
        modules: tuple[Any, ...] = (vae, WanText(tokenizer, encoder), denoiser)
        return Parts(variant, *(module.requires_grad_(False).eval() for module in modules))

    def save(self, parts: Parts, folder: Path) -> None:
        """Write the whole pipeline as diffusers folders, safetensors only.

        ValueError where a part is missing or an adapter sits on the denoiser.
        """
        lacking = [name for name in ("vae", "text", "denoiser") if getattr(parts, name) is None]
        if lacking:
            raise ValueError(f"nothing written to {folder}: {', '.join(lacking)} not loaded")
        if getattr(parts.denoiser, "peft_config", None):
            raise ValueError(
                f"nothing written to {folder}: an adapter is attached to the denoiser. Save it"
                " with frisket.adapters.lora.save and detach it first."
            )
        self.pipeline(parts).save_pretrained(folder, safe_serialization=True)


def _statistics(vae: nn.Module, device: torch.device) -> tuple[Tensor, Tensor]:
    config: Any = vae.config
    view = (1, -1, 1, 1, 1)
    mean = torch.tensor(config.latents_mean, device=device).view(view)
    return mean, torch.tensor(config.latents_std, device=device).view(view)


def _single_file(file: Path, source: Source) -> Any:
    """Load a transformer from one file; its config lies beside it, or is the variant's.

    Raises ValueError where the file's tensors do not fit that config.
    """
    weights.tensors(file)
    beside = [file.parent / "config.json", file.parent / "transformer" / "config.json"]
    with TemporaryDirectory() as scratch:
        config = next((path for path in beside if _is_transformer(path)), None)
        if config is None:
            config = Path(scratch) / "config.json"
            config.write_text(
                json.dumps({"_class_name": "WanTransformer3DModel"} | ARCHITECTURES[source.variant])
            )
        try:
            model = WanTransformer3DModel.from_single_file(
                str(file),
                config=str(config.parent),
                torch_dtype=source.dtype,
                local_files_only=True,
            )
        except (ValueError, NotImplementedError) as error:
            # A parameter that no tensor filled cannot leave the meta device: NotImplementedError.
            lacking = isinstance(error, NotImplementedError)
            where = f"variant {source.variant}" if scratch in str(config) else str(config)
            raise ValueError(
                f"{file} does not fit the architecture of {where}:"
                f" {'it lacks some of its tensors' if lacking else error}. Choose the variant the"
                " file was made for, or put its own config.json beside it."
            ) from error
    weights.strict(model, file)
    # from_pretrained keeps these parts in float32, from_single_file casts them with the rest.
    for name, value in model.named_parameters():
        if any(part in name.split(".") for part in model._keep_in_fp32_modules):
            value.data = value.data.float()
    return model


def _is_transformer(config: Path) -> bool:
    if not config.is_file():
        return False
    return bool(json.loads(config.read_text()).get("_class_name") == "WanTransformer3DModel")


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that needs no download: one token a byte, </s> at the end, as T5 has it."""
    special = ["<pad>", "</s>", "<unk>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(special + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=TOKENS,
    )


FAMILY: Family = Wan()
