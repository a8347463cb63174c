"""The Z-Image family: single-stream diffusion transformers that read a Qwen3 encoder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, Qwen3Config, Qwen3Model

from frisket.attention.tokens import Spans
from frisket.families import tiny, weights
from frisket.families.base import Conditioning, Family, Parts, References, Source, Variant
from frisket.families.defaults import Standard, TextBundle, decode_kl, encode_kl, parts_of
from frisket.families.experts import first
from frisket.families.key_map import Names
from frisket.families.presets import presets
from frisket.families.routes import RoutedBlock, align
from frisket.families.shared.prompt_spans import load_tokenizers, read_template
from frisket.families.shared.routes.stacks import list_stack
from frisket.families.shared.streams.planes import ZImageStreams
from frisket.grid import LatentGrid
from frisket.shapes import Clip, Latents, PerSample

TOKENS = 512  # of the chat template with the prompt in it: the pipeline's own limit
GRID = LatentGrid(channels=16, spatial=8, patch=2)
SCALE, SHIFT = 0.3611, 0.1159  # of FLUX.1's VAE, which this model uses

# Diffusers' defaults are the released transformer's: a single file needs nothing beside it.
ARCHITECTURE: dict[str, Any] = {}
COMFYUI: dict[
    str, str | tuple[str, ...]
] = {  # what ComfyUI's model and musubi's converter call them
    **{
        f"{blocks}.{{}}.attention.{theirs}": ours
        for blocks in ("layers", "noise_refiner", "context_refiner")
        for theirs, ours in (
            ("qkv", tuple(f"{blocks}.{{}}.attention.to_{part}" for part in "qkv")),
            ("out", f"{blocks}.{{}}.attention.to_out.0"),
        )
    },
    "x_embedder": "all_x_embedder.2-1",
    "final_layer.linear": "all_final_layer.2-1.linear",
    "final_layer.adaLN_modulation.1": "all_final_layer.2-1.adaLN_modulation.1",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ZImageRoutes:
    """Blocks after the refiners see [image | its padding | text | padding] of each sample.

    The refiners before them stay whole: upstream cuts the picture out of what they return.
    """

    def find_patch(self, denoiser: nn.Module) -> tuple[int, int, int]:
        """2 x 2 cells, the model's own default: `predict` names no size."""
        return 1, GRID.patch, GRID.patch

    def list_blocks(self, denoiser: nn.Module) -> tuple[RoutedBlock, ...]:
        """`layers`; their mask (b n) is there where the texts of a batch differ in length."""
        narrow = align(attn_mask=("joint", 1), freqs_cis=("joint", 1), noise_mask=("joint", 1))
        return list_stack(
            denoiser, "layers", hidden="x", stream="joint", output=None, narrow=narrow
        )


class ZImage(Standard):
    """The family; see `frisket.families.base.Family` for the contract.

    `turbo` is distilled to eight steps without guidance: training loosens that, and a LoRA trained
    on `base` is known to work on it.
    """

    name = "z_image"
    aliases: tuple[str, ...] = ("z-image", "zimage")
    streams = ZImageStreams()
    routes = ZImageRoutes()
    lora_prefix = "transformer"
    # The release is in diffusers' own names. ComfyUI's checkpoint fuses q, k and v, but ComfyUI
    # maps LoRAs in the release's names under `diffusion_model.` onto that. Its own names are read.
    names = Names(
        also=COMFYUI,
        unwritten={"kohya": "ComfyUI and musubi-tuner call its attention differently in such keys"},
    )
    # Without the refiners that stand before the blocks, as OneTrainer has it.
    lora_presets: Mapping[str, tuple[str, ...]] = presets(
        "^(?!.*refiner).*attention", "^(?!.*refiner).*feed_forward", "layers"
    )
    lora_targets: tuple[str, ...] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "feed_forward.w1",
        "feed_forward.w2",
        "feed_forward.w3",
    )
    variants: Mapping[str, Variant] = {
        "turbo": Variant(
            repo="Tongyi-MAI/Z-Image-Turbo",
            grid=GRID,
            height=1024,
            width=1024,
            steps=9,  # the last one does nothing
            guidance=0.0,  # this pipeline's scale: 0 is none, and 1 doubles what the prompt does
            shift=3.0,
            negative=False,
            architecture="Z-Image",
        ),
        "base": Variant(
            repo="Tongyi-MAI/Z-Image",
            grid=GRID,
            height=1024,
            width=1024,
            steps=50,
            guidance=4.0,
            shift=6.0,
            like="turbo",
            architecture="Z-Image",
        ),
    }

    def load_vae(self, source: Source) -> nn.Module:
        """Load `vae/` (FLUX.1's: 16 channels, scale 0.3611, shift 0.1159)."""
        repo = self.variants[source.variant].repo
        options = {"torch_dtype": source.dtype, "use_safetensors": True}
        vae = weights.load(AutoencoderKL, source, repo, "vae", **options)
        weights.expect(
            vae.config,
            {"latent_channels": 16, "scaling_factor": SCALE, "shift_factor": SHIFT},
            where=source.path or repo,
            what="a VAE of Z-Image",
        )
        return weights.freeze(vae, source)

    def load_text(self, source: Source) -> nn.Module:
        """Load `tokenizer/` and `text_encoder/` (Qwen3 4B: 8 GB in bfloat16)."""
        repo = self.variants[source.variant].repo
        tokenizer = weights.load(AutoTokenizer, source, repo, "tokenizer")
        options = {"torch_dtype": source.dtype, "use_safetensors": True}
        encoder = weights.load(Qwen3Model, source, repo, "text_encoder", **options)
        return weights.freeze(TextBundle(tokenizer=tokenizer, text_encoder=encoder), source)

    def load_tokenizer(self, source: Source) -> nn.Module:
        """Load `tokenizer/` alone, no encoder: `read_spans` needs no more."""
        repo = self.variants[source.variant].repo
        return TextBundle(**load_tokenizers(source, repo, "tokenizer"))

    def load_denoiser(self, source: Source) -> nn.Module:
        """Load `transformer/`, or one .safetensors file with diffusers' or ComfyUI's names."""
        repo = self.variants[source.variant].repo
        model: Any = weights.denoiser(
            ZImageTransformer2DModel, source, repo, architecture=ARCHITECTURE
        )
        weights.expect(
            model.config,
            {"in_channels": GRID.channels, "siglip_feat_dim": None},  # the omni model looks at more
            where=source.path or repo,
            what="a transformer of Z-Image",
        )
        return weights.freeze(model, source)

    @torch.no_grad()
    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """(Posterior mode - 0.1159) * 0.3611, float32."""
        return encode_kl(vae, clip, SCALE, SHIFT)

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The inverse of `encode`, float32."""
        return decode_kl(vae, latents, SCALE, SHIFT)

    @torch.no_grad()
    def embed(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> Conditioning:
        """`text` b n 2560 of the longest prompt, zero after each one's end, and `mask` b n.

        The pipeline's list of texts as one tensor. Chats over 512 tokens are cut there, as
        upstream does; a warning names them.
        """
        assert isinstance(text, TextBundle)
        self._warn_cut(text.tokenizer, prompts)
        stock: Any = ZImagePipeline(**text.parts(), scheduler=None, vae=None, transformer=None)
        embeddings, _ = stock.encode_prompt(
            list(prompts),  # upstream writes into the list it is given
            device=next(text.parameters()).device,
            do_classifier_free_guidance=False,
            max_sequence_length=TOKENS,
        )
        masks = [torch.ones(len(embedding), device=embedding.device) for embedding in embeddings]
        return {"text": pad_sequence(embeddings, True), "mask": pad_sequence(masks, True)}

    def _warn_cut(self, tokenizer: Any, prompts: Sequence[str]) -> None:
        for prompt in prompts:
            length = len(tokenizer(_render_chat(tokenizer, prompt)).input_ids)
            if length > TOKENS:
                logger.warning("%d tokens cut to %d: %.60s...", length, TOKENS, prompt)

    def read_spans(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> list[Spans]:
        """As long as the chat with the prompt in it, 512 at most; the template's are None."""
        assert isinstance(text, TextBundle)
        tokenizer: Any = text.tokenizer
        options = {"truncation": True, "max_length": TOKENS}
        chat = partial(_render_chat, tokenizer)
        return [read_template(tokenizer, chat, prompt, **options).spans for prompt in prompts]

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The velocity noise - clean, float32.

        The model is told 1 - t, in float32, and predicts clean - noise: the sign is turned.
        """
        dtype = first(denoiser).x_pad_token.dtype  # `denoiser.dtype` walks all modules
        device = noisy.device
        texts = _strip_padding({**conditioning, "text": conditioning["text"].to(device, dtype)})
        pictures = list(noisy.to(dtype).unbind(0))
        velocities: list[Tensor] = denoiser(
            pictures, 1 - t.to(device, torch.float32), texts, return_dict=False
        )[0]
        return -torch.stack(velocities).float()

    def pipeline(self, parts: Parts) -> Any:
        """ZImagePipeline with Euler flow sampling, as the released checkpoints name."""
        return ZImagePipeline(
            **parts_of(parts.text, "tokenizer", "text_encoder"),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=self.variants[parts.variant].shift),
            vae=parts.vae,
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
        """Lists of embeddings by the pipeline's names."""
        return {
            "prompt_embeds": _strip_padding(positive),
            "negative_prompt_embeds": None if negative is None else _strip_padding(negative),
            "guidance_scale": 0.0 if negative is None else guidance,
        }

    def tiny(self, variant: str) -> Parts:
        """Two layers, 32 channels wide, one refiner each, an 8-channel VAE; seeded."""
        with tiny.seed_torch():
            vae = tiny.kl_vae(
                AutoencoderKL,
                16,
                scaling_factor=SCALE,
                shift_factor=SHIFT,
                use_quant_conv=False,
                use_post_quant_conv=False,
            )
            encoder = Qwen3Model(
                Qwen3Config(
                    hidden_size=16,
                    intermediate_size=16,
                    num_hidden_layers=3,
                    num_attention_heads=2,
                    num_key_value_heads=2,
                    head_dim=8,
                    vocab_size=tiny.VOCABULARY,
                    max_position_embeddings=1024,
                )
            )
            denoiser = ZImageTransformer2DModel(
                dim=32,
                n_layers=2,
                n_refiner_layers=1,
                n_heads=2,
                n_kv_heads=2,
                cap_feat_dim=16,
                axes_dims=[8, 4, 4],
                axes_lens=[1024, 64, 64],
            )
            for token in (denoiser.x_pad_token, denoiser.cap_pad_token):
                nn.init.normal_(token, std=0.02)  # zeros, or worse, in the class
        text = TextBundle(tokenizer=tiny.tokenizer(TOKENS), text_encoder=encoder)
        return Parts(variant, *tiny.quiet(vae, text, denoiser))


def _render_chat(tokenizer: Any, prompt: str) -> str:
    """What the pipeline makes of a prompt before it is cut into tokens."""
    chat: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=True,
    )
    return chat


def _strip_padding(conditioning: Conditioning) -> list[Tensor]:
    """The texts of a batch without their padding, which is at the end."""
    lengths = conditioning["mask"].sum(1).int().tolist()
    return [text[:length] for text, length in zip(conditioning["text"], lengths, strict=True)]


FAMILY: Family = ZImage()
