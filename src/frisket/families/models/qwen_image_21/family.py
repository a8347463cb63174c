"""The Qwen-Image 2.1 family: a 7B block-causal transformer for pictures, prompted by text."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage21,
    FlowMatchEulerDiscreteScheduler,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
)
from diffusers.image_processor import VaeImageProcessor
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import Qwen3VLForConditionalGeneration

from frisket.attention.base import name_samples
from frisket.attention.tokens import Spans
from frisket.families import tiny, weights
from frisket.families.base import Conditioning, Family, Parts, Source, Variant
from frisket.families.defaults import Standard, TextBundle
from frisket.families.experts import first
from frisket.families.key_map import Names
from frisket.families.models.qwen_image_21 import text as text_module
from frisket.families.models.qwen_image_21.text import NoProcessor, PromptProcessor
from frisket.families.presets import presets
from frisket.families.shared.prompt_spans import read_template
from frisket.families.shared.qwen_references import ReferencePictures, device_of
from frisket.families.shared.qwen_text import pad_texts
from frisket.families.shared.routes.packed import Qwen21Routes
from frisket.families.shared.streams.packed import Qwen21Streams
from frisket.grid import LatentGrid
from frisket.objectives.shift import SizeShift
from frisket.shapes import Clip, Latents, PerSample

GRID = LatentGrid(channels=64, spatial=16, temporal=1, patch=2)
VARIANT = "2.1"
ARCHITECTURES: dict[str, dict[str, Any]] = {VARIANT: {}}  # the class's defaults are the release
SCHEDULE: dict[str, Any] = {  # `scheduler_config.json` of the repository
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "max_image_seq_len": 8192,
    "shift_terminal": 0.02,
}
SIZE_SHIFT = SizeShift(high=SCHEDULE["max_shift"], many=SCHEDULE["max_image_seq_len"], patch=1)
BLOCK = "transformer_blocks.{}"


class QwenImage21(Standard):
    """The family; see `frisket.families.base.Family` for the contract.

    Text to image only. The pipeline can be given pictures too, but not together with embeddings
    (it has no argument for where in the text they are), and so not without its text encoder.
    """

    name = "qwen_image_21"
    aliases: tuple[str, ...] = ("qwen-image-2", "qwen-image-21")
    streams = Qwen21Streams(uncached={"use_kv_cache": False})
    routes = Qwen21Routes()
    lora_prefix = "transformer"
    # Qwen's release has diffusers' names; ComfyUI fuses two layers of the feed-forward, gate first,
    # and finds adapters of the halves under `transformer.`, whether its model is fused or not.
    names = Names(
        {
            **{
                layer: layer
                for layer in (
                    "img_in",
                    "txt_in.in_layer",
                    "txt_in.out_layer",
                    "time_text_embed.timestep_embedder.linear_1",
                    "time_text_embed.timestep_embedder.linear_2",
                    "modulation.1",
                    "norm_out.linear",
                    "proj_out",
                    f"{BLOCK}.attn.to_q",
                    f"{BLOCK}.attn.to_k",
                    f"{BLOCK}.attn.to_v",
                    f"{BLOCK}.attn.to_out.0",
                    f"{BLOCK}.img_mlp.out",
                )
            },
            f"{BLOCK}.img_mlp.gate_up": (f"{BLOCK}.img_mlp.gate_layer", f"{BLOCK}.img_mlp.proj"),
        },
        comfyui="diffusers",
        unwritten={"kohya": "ComfyUI finds all its layers in such keys in some checkpoints only"},
    )
    lora_presets: Mapping[str, tuple[str, ...]] = presets(mlp="img_mlp")
    lora_targets: tuple[str, ...] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "img_mlp.gate_layer",
        "img_mlp.proj",
        "img_mlp.out",
    )
    variants: Mapping[str, Variant] = {
        VARIANT: Variant(
            repo="Qwen/Qwen-Image-2.1",
            grid=GRID,
            height=1024,
            width=1024,
            steps=40,
            guidance=1.0,  # true_cfg_scale: made to be sampled without a negative prompt
            shift=2.0,  # the scheduler's at 1024^2 pixels (e^0.69)
            size_shift=SIZE_SHIFT,
            architecture="Qwen-Image-2.1",
        )
    }

    def load_vae(self, source: Source) -> nn.Module:
        """Load `vae/`: of four channels, colour and opacity."""
        repo = self.variants[source.variant].repo
        vae = weights.load(
            AutoencoderKLQwenImage21,
            source,
            repo,
            "vae",
            torch_dtype=source.dtype,
            use_safetensors=True,
        )
        wanted = {"z_dim": GRID.channels, "in_channels": 4}
        where = source.path or repo
        weights.expect(vae.config, wanted, where=where, what="a Qwen-Image 2.1 VAE")
        return weights.freeze(vae, source)

    def load_text(self, source: Source) -> nn.Module:
        """Load `processor/` and `text_encoder/` (Qwen3-VL 8B: 18 GB in bfloat16)."""
        repo = self.variants[source.variant].repo
        encoder = weights.load(
            Qwen3VLForConditionalGeneration,
            source,
            repo,
            "text_encoder",
            torch_dtype=source.dtype,
            use_safetensors=True,
        )
        processor = weights.load(PromptProcessor, source, repo, "processor")
        return weights.freeze(TextBundle(processor=processor, text_encoder=encoder), source)

    def load_tokenizer(self, source: Source) -> nn.Module:
        """Load `processor/` alone, no encoder: `read_spans` needs no more."""
        repo = self.variants[source.variant].repo
        return TextBundle(processor=weights.load(PromptProcessor, source, repo, "processor"))

    def load_denoiser(self, source: Source) -> nn.Module:
        """Load `transformer/`, or one .safetensors file, ComfyUI's with its fused layers too."""
        repo = self.variants[source.variant].repo
        model: Any = weights.denoiser(
            QwenImage21Transformer2DModel, source, repo, architecture=ARCHITECTURES[source.variant]
        )
        wanted = {
            "in_channels": GRID.channels,
            "out_channels": GRID.channels,
            "patch_size": 1,
            "causal_condition": True,
        }
        what = "a Qwen-Image 2.1 transformer"
        weights.expect(model.config, wanted, where=source.path or repo, what=what)
        return weights.freeze(model, source)

    @torch.no_grad()
    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """Posterior mode of the opaque picture, then (z - latents_mean) / latents_std; float32.

        As QwenImage21Pipeline._encode_vae_image does of an RGBA picture that hides nothing.
        """
        GRID.cells(*clip.shape[2:])
        device, dtype = device_of(vae)
        opaque = pad(clip.to(device, dtype), (0, 0, 0, 0, 0, 0, 0, 1), value=1.0)
        mean, std = _statistics(vae, device)
        qwen: Any = vae
        normal: Tensor = (qwen.encode(opaque).latent_dist.mode().float() - mean) / std
        return normal

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The colours of the inverse of `encode`, clamped to [-1, 1], float32; opacity is left."""
        device, dtype = device_of(vae)
        mean, std = _statistics(vae, device)
        qwen: Any = vae
        raw = latents.to(device).float() * std + mean
        clip: Tensor = qwen.decode(raw.to(dtype), return_dict=False)[0].float()
        return clip[:, :3]

    @torch.no_grad()
    def embed(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[ReferencePictures] = ()
    ) -> Conditioning:
        """`text` b l 4096 and `mask` b l, as the pipeline's encode_prompt of each prompt alone."""
        assert isinstance(text, TextBundle)
        pipeline: Any = QwenImage21Pipeline(
            **text.parts(), vae=None, scheduler=None, transformer=None
        )
        rows = [pipeline.encode_prompt([prompt])[0] for prompt in prompts]
        masks = [torch.ones(row.shape[:2], dtype=torch.long, device=row.device) for row in rows]
        return {"text": pad_texts(rows), "mask": pad_texts(masks)}

    def read_spans(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[ReferencePictures] = ()
    ) -> list[Spans]:
        """As long as the prompt and its template, without the system's message before them."""
        assert isinstance(text, TextBundle)
        parts = {"text_encoder": None, **text.parts()}
        pipeline: Any = QwenImage21Pipeline(**parts, vae=None, scheduler=None, transformer=None)
        tokenizer, before = pipeline.processor.tokenizer, pipeline._drop_idx

        def render(prompt: str) -> str:
            chat: str = pipeline.prompt_template_t2i.format(prompt or " ")
            return chat

        return [read_template(tokenizer, render, prompt).spans[before:] for prompt in prompts]

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The velocity noise - clean, float32.

        Texts of different lengths go one length at a time: the model counts padding as text, and
        would place a picture further off for a longer neighbour in its batch.
        """
        lengths = conditioning["mask"].sum(1).tolist()
        if len(set(lengths)) == 1:
            text = conditioning["text"][:, : int(lengths[0])]
            return _predict(denoiser, noisy, t, text)
        output = torch.zeros_like(noisy, dtype=torch.float32)
        for length in sorted(set(lengths)):
            rows = torch.tensor(
                [index for index, own_length in enumerate(lengths) if own_length == length],
                device=noisy.device,
            )
            text = conditioning["text"].to(noisy.device)[rows, : int(length)]
            with name_samples(rows.tolist()):
                velocity = _predict(denoiser, noisy[rows], t.to(noisy.device)[rows], text)
            output = output.index_copy(0, rows, velocity)
        return output

    def pipeline(self, parts: Parts) -> Any:
        """QwenImage21Pipeline with the Euler flow scheduler of its checkpoint; its pictures RGB."""
        text_parts: dict[str, Any] = {"processor": NoProcessor(), "text_encoder": None}
        if parts.text is not None:
            assert isinstance(parts.text, TextBundle)
            text_parts = parts.text.parts()
        pipeline = QwenImage21Pipeline(
            **text_parts,
            vae=parts.vae,
            scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULE),
            transformer=parts.denoiser,
        )
        pipeline.image_processor = _Opaque(vae_scale_factor=GRID.spatial)
        # What a saved model_index.json names must be there without Frisket.
        pipeline.register_to_config(processor=("transformers", "Qwen3VLProcessor"))
        return pipeline

    def call(
        self,
        variant: str,
        positive: Conditioning,
        negative: Conditioning | None,
        *,
        guidance: float,
        references: ReferencePictures = (),
    ) -> dict[str, Any]:
        """Embeddings by the pipeline's names, guided by `true_cfg_scale` where it is above 1."""
        text, mask = _cut(positive)
        kwargs = {"prompt_embeds": text, "prompt_embeds_mask": mask, "true_cfg_scale": 1.0}
        if negative is None or guidance <= 1:
            return kwargs
        text, mask = _cut(negative)
        return {
            **kwargs,
            "negative_prompt_embeds": text,
            "negative_prompt_embeds_mask": mask,
            "true_cfg_scale": guidance,
        }

    def tiny(self, variant: str) -> Parts:
        """Two layers of 32 channels, an 8-channel VAE, a byte tokenizer; seeded."""
        with tiny.seed_torch():
            vae = AutoencoderKLQwenImage21(
                base_dim=8, decoder_base_dim=8, dim_mult=[1, 1, 1, 1, 1], num_res_blocks=1
            )
            encoder = text_module.tiny_prompt_encoder()
            denoiser = QwenImage21Transformer2DModel(
                num_layers=2,
                attention_head_dim=16,
                num_attention_heads=2,
                context_in_dim=16,
                axes_dims_rope=(8, 4, 4),
            )
        processor = text_module.tiny_prompt_processor()
        text = TextBundle(processor=processor, text_encoder=encoder)
        return Parts(variant, *tiny.quiet(vae, text, denoiser))


class _Opaque(VaeImageProcessor):
    """Leaves the fourth channel: clips here have three."""

    def postprocess(self, image: Tensor, *args: Any, **options: Any) -> Any:
        """As upstream, of the colours."""
        return super().postprocess(image[:, :3], *args, **options)


def _cut(conditioning: Conditioning) -> tuple[Tensor, Tensor]:
    """Text and mask as far as the longest goes; padding beyond it would move the picture."""
    longest = int(conditioning["mask"].sum(1).max())
    return conditioning["text"][:, :longest], conditioning["mask"][:, :longest]


def _predict(denoiser: nn.Module, noisy: Tensor, t: Tensor, text: Tensor) -> Tensor:
    dtype = first(denoiser).txt_in.text_norm.weight.dtype  # a layer no quantiser touches
    b, _, _, h, w = noisy.shape
    pictures = torch.zeros(b, text.shape[1] + h * w // 4, dtype=torch.bool, device=noisy.device)
    pictures[:, text.shape[1] :] = True  # a slot for 2 x 2 cells each, after the text
    velocity: Tensor = denoiser(
        hidden_states=noisy.flatten(2).transpose(1, 2).to(dtype),
        timestep=t.to(noisy.device, torch.float32),
        encoder_hidden_states=text.to(noisy.device, dtype),
        img_shapes=[[(1, h, w)]] * b,
        img_mask=pictures,
        return_dict=False,
    )[0]
    target = velocity[:, -h * w :].float()
    return target.transpose(1, 2).reshape(noisy.shape)


def _statistics(vae: nn.Module, device: torch.device) -> tuple[Tensor, Tensor]:
    config: Any = vae.config
    view = (1, -1, 1, 1, 1)
    mean = torch.tensor(config.latents_mean, device=device).view(view)
    return mean, torch.tensor(config.latents_std, device=device).view(view)


FAMILY: Family = QwenImage21()
