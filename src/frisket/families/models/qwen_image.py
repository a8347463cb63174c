"""The Qwen-Image family: a 20B two-stream transformer for pictures, and its edit models."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from torch import Tensor, nn
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from frisket.attention.tokens import Spans
from frisket.families import tiny, weights
from frisket.families.base import Conditioning, Family, Parts, Source, Variant
from frisket.families.defaults import Standard, TextBundle, parts_of
from frisket.families.experts import first
from frisket.families.key_map import Names
from frisket.families.presets import presets
from frisket.families.shared import qwen_references as seeing
from frisket.families.shared import qwen_text
from frisket.families.shared.prompt_spans import load_tokenizers
from frisket.families.shared.qwen_references import ReferencePictures
from frisket.families.shared.qwen_text import (
    EditText,
    PictureProcessor,
    find_qwen_spans,
    pad_texts,
    see_in_place,
    trim_texts,
)
from frisket.families.shared.routes.packed import QwenRoutes
from frisket.families.shared.streams.packed import QwenStreams
from frisket.grid import LatentGrid
from frisket.objectives.shift import SizeShift
from frisket.shapes import Clip, Latents, PerSample, Plane

TOKENS = 1024  # of a prompt, the most QwenImagePipeline takes (its own default cuts at 512)
GRID = LatentGrid(channels=16, spatial=8, temporal=1, patch=2)
# `scheduler_config.json` of all the repositories: the shift grows with the picture, from e^0.5 at
# 256 tokens to e^0.9 at 8192, and the last step is taken at t = 0.02.
SCHEDULE: dict[str, Any] = {
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "max_image_seq_len": 8192,
    "shift_terminal": 0.02,
}
SIZE_SHIFT = SizeShift(high=SCHEDULE["max_shift"], many=SCHEDULE["max_image_seq_len"])
PIPELINES: dict[str, Any] = {
    "image": QwenImagePipeline,
    "2512": QwenImagePipeline,
    "edit": QwenImageEditPipeline,
    "edit-2509": QwenImageEditPlusPipeline,
    "edit-2511": QwenImageEditPlusPipeline,
}
# Beyond the class's defaults, which are the released sizes. The keys of all these models are alike:
# only the variant tells a single file of 2511, whose references are modulated as at t = 0.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    name: {"zero_cond_t": name == "edit-2511"} for name in PIPELINES
}

# musubi-tuner's words for a model, where they are not its repository's name.
WORDS = {"Qwen-Image-2512": "Qwen-Image", "Qwen-Image-Edit-2509": "Qwen-Image-Edit-Plus"}

logger = logging.getLogger(__name__)


def _variant(repo: str, side: int, steps: int, **more: Any) -> Variant:
    return Variant(
        repo=f"Qwen/{repo}",
        grid=GRID,
        height=side,
        width=side,
        steps=steps,
        guidance=4.0,  # true_cfg_scale
        shift=round(SIZE_SHIFT.at(GRID.cells(1, side, side)), 2),
        size_shift=SIZE_SHIFT,
        architecture=WORDS.get(repo, repo),
        **more,
    )


class QwenImage(Standard):
    """The family; see `frisket.families.base.Family` for the contract."""

    name = "qwen_image"
    aliases: tuple[str, ...] = ("qwen-image", "qwenimage")
    streams = QwenStreams()
    routes = QwenRoutes()
    lora_prefix = "transformer"
    # Qwen's own release, ComfyUI and the other trainers all use diffusers' names.
    # Of the names ComfyUI reads, those with `transformer.` are read by InvokeAI and diffusers too.
    names = Names(comfyui="diffusers")
    lora_presets: Mapping[str, tuple[str, ...]] = presets(mlp="img_mlp|txt_mlp")
    lora_targets: tuple[str, ...] = (
        *("to_q", "to_k", "to_v", "to_out.0"),
        *("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
        "img_mlp.net.0.proj",
        "img_mlp.net.2",
        "txt_mlp.net.0.proj",
        "txt_mlp.net.2",
    )
    # The last block's text stream is thrown away: only its keys and values reach the picture.
    lora_dead: tuple[str, ...] = tuple(
        f"transformer_blocks.{{}}.{layer}"
        for layer in ("attn.add_q_proj", "attn.to_add_out", "txt_mlp.net.0.proj", "txt_mlp.net.2")
    )
    variants: Mapping[str, Variant] = {
        "image": _variant("Qwen-Image", 1328, 50),
        "2512": _variant("Qwen-Image-2512", 1328, 50, like="image"),
        "edit": _variant("Qwen-Image-Edit", 1024, 50, sees="pictures"),
        "edit-2509": _variant("Qwen-Image-Edit-2509", 1024, 40, sees="pictures"),
        "edit-2511": _variant("Qwen-Image-Edit-2511", 1024, 40, sees="pictures"),
    }

    def load_vae(self, source: Source) -> nn.Module:
        """Load `vae/` (a picture is a clip of one frame to it)."""
        repo = self.variants[source.variant].repo
        vae = weights.load(
            AutoencoderKLQwenImage,
            source,
            repo,
            "vae",
            torch_dtype=source.dtype,
            use_safetensors=True,
        )
        where = source.path or repo
        weights.expect(vae.config, {"z_dim": GRID.channels}, where=where, what="a Qwen-Image VAE")
        return weights.freeze(vae, source)

    def load_text(self, source: Source) -> nn.Module:
        """Load `tokenizer/` and `text_encoder/` (Qwen2.5-VL 7B: 17 GB in bfloat16).

        Edit models load `processor/` as well; a text-to-image folder has none and is refused.
        """
        repo = self.variants[source.variant].repo
        parts = {"tokenizer": weights.load(AutoTokenizer, source, repo, "tokenizer")}
        if self._sees(source.variant):
            parts["processor"] = weights.load(PictureProcessor, source, repo, "processor")
        parts["text_encoder"] = see_in_place(
            weights.load(
                Qwen2_5_VLForConditionalGeneration,
                source,
                repo,
                "text_encoder",
                torch_dtype=source.dtype,
                use_safetensors=True,
            )
        )
        return weights.freeze(self._bundle(source.variant, **parts), source)

    def load_tokenizer(self, source: Source) -> nn.Module:
        """Load `tokenizer/`, and of an edit model `processor/`."""
        repo = self.variants[source.variant].repo
        parts = load_tokenizers(source, repo, "tokenizer")
        if self._sees(source.variant):
            parts["processor"] = weights.load(PictureProcessor, source, repo, "processor")
        return self._bundle(source.variant, **parts)

    def load_denoiser(self, source: Source) -> nn.Module:
        """Load `transformer/`, or one .safetensors file (its keys are diffusers' everywhere).

        ValueError for a folder of another Qwen-Image: 2511 and the others are not told apart by
        their weights, but by `zero_cond_t` in the config.
        """
        repo = self.variants[source.variant].repo
        architecture = ARCHITECTURES[source.variant]
        model: Any = weights.denoiser(
            QwenImageTransformer2DModel, source, repo, architecture=architecture
        )
        wanted = {
            "in_channels": 4 * GRID.channels,
            "out_channels": GRID.channels,
            "guidance_embeds": False,
            "use_layer3d_rope": False,  # Qwen-Image-Layered
            **architecture,
        }
        what = f"the transformer of {repo}"
        weights.expect(model.config, wanted, where=source.path or repo, what=what)
        return weights.freeze(model, source)

    @torch.no_grad()
    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """Posterior mode, then (z - latents_mean) / latents_std per channel; float32.

        As QwenImageEditPipeline._encode_vae_image does.
        """
        _only_frame(clip)
        GRID.cells(*clip.shape[2:])
        device, dtype = seeing.device_of(vae)
        qwen: Any = vae
        posterior = qwen.encode(clip.to(device, dtype)).latent_dist
        mode = posterior.mode().float()
        mean, std = _statistics(vae, mode.device)  # a VAE that only visits answers from there
        normal: Tensor = (mode - mean) / std
        return normal

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The inverse of `encode`, clamped to [-1, 1], float32."""
        device, dtype = seeing.device_of(vae)
        mean, std = _statistics(vae, device)
        raw = latents.to(device).float() * std + mean
        decoder: Any = vae
        clip: Tensor = decoder.decode(raw.to(dtype), return_dict=False)[0].float()
        return clip

    @torch.no_grad()
    def embed(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[ReferencePictures] = ()
    ) -> Conditioning:
        """`text` b l 3584 and `mask` b l (1: a token is there), as the pipeline's encode_prompt.

        An edit model's text encoder looks at the pictures, so each prompt needs its own: ValueError
        where it has none, or several for Qwen-Image-Edit, which knows one only. Text-to-image
        prompts over 1024 tokens are cut there, as upstream does; a warning names them.
        """
        assert isinstance(text, TextBundle)
        if not isinstance(text, EditText):
            return self._embed_text(text, prompts)
        seeing.check_references(len(prompts), len(references))
        kind = PIPELINES["edit-2509" if text.several else "edit"]
        pipeline: Any = kind(**text.parts(), vae=None, scheduler=None, transformer=None)
        rows, masks = [], []
        for prompt, prompt_references in zip(prompts, references, strict=True):
            pictures = seeing.pictures_of(prompt_references)
            seeing.check_count(len(pictures), several=text.several, prompt=prompt)
            looked = [seeing.resize_for_text(picture, several=text.several) for picture in pictures]
            row, _ = pipeline.encode_prompt([prompt], image=looked if text.several else looked[0])
            rows.append(row)
            masks.append(torch.ones(row.shape[:2], dtype=torch.long, device=row.device))
        return {"text": pad_texts(rows), "mask": pad_texts(masks)}

    def _embed_text(self, text: TextBundle, prompts: Sequence[str]) -> Conditioning:
        pipeline: Any = QwenImagePipeline(
            **text.parts(), vae=None, scheduler=None, transformer=None
        )
        before = pipeline.prompt_template_encode_start_idx
        for prompt in prompts:
            whole = pipeline.tokenizer(pipeline.prompt_template_encode.format(prompt)).input_ids
            if len(whole) - before > TOKENS:
                logger.warning("%d tokens cut to %d: %.60s...", len(whole) - before, TOKENS, prompt)
        embeds, mask = pipeline.encode_prompt(list(prompts), max_sequence_length=TOKENS)
        if mask is None:  # upstream's word for: all as long as the longest
            mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
        return {"text": embeds, "mask": mask}

    @torch.no_grad()
    def image_conditioning(
        self,
        vae: nn.Module,
        vision: nn.Module | None,
        clip: Clip,
        references: ReferencePictures = (),
        keep: Plane | None = None,
    ) -> Conditioning:
        """`reference_0`, `reference_1`, ...: each picture's latents, 1 16 1 h w, float32.

        A picture is resized to about 1024^2 pixels in its own proportion, whatever the clip's size,
        and encoded as `encode` does: what the edit pipelines' prepare_latents packs.
        """
        area = seeing.area_of(vae)
        latents = [
            self.encode(vae, seeing.pixels(picture, area))
            for picture in seeing.pictures_of(references)
        ]
        return dict(zip(seeing.list_names(len(latents)), latents, strict=True))

    def read_spans(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[ReferencePictures] = ()
    ) -> list[Spans]:
        """As long as the prompt and the template's end; an edit model's pictures come before."""
        assert isinstance(text, TextBundle)
        return find_qwen_spans(text, prompts, references, TOKENS)

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The velocity noise - clean of the target, float32.

        The references' tokens follow the target's, and what the model says of them is dropped. The
        model is told t in [0, 1] as float32; it rounds to its own precision inside, upstream too.
        """
        _only_frame(noisy)
        dtype = first(denoiser).txt_norm.weight.dtype  # a layer no quantiser touches
        device = noisy.device
        text, mask = trim_texts(conditioning["text"].to(device, dtype), conditioning["mask"])
        reference_latents = [value.to(device, dtype) for value in seeing.latents_in(conditioning)]
        packed = [seeing.tokens(value) for value in (noisy.to(dtype), *reference_latents)]
        shapes = [seeing.shape_of(value) for value in (noisy, *reference_latents)]
        velocity: Tensor = denoiser(
            hidden_states=torch.cat(packed, dim=1),
            timestep=t.to(device, torch.float32),
            encoder_hidden_states=text,
            encoder_hidden_states_mask=None if mask is None else mask.to(device),
            img_shapes=[shapes] * len(noisy),
            return_dict=False,
        )[0]
        target = velocity[:, : packed[0].shape[1]].float()
        return seeing.latents_from(target, *noisy.shape[3:])

    def pipeline(self, parts: Parts) -> Any:
        """The variant's public pipeline with the Euler flow scheduler of its checkpoint."""
        names = ["tokenizer", "text_encoder"]
        names += ["processor"] if self._sees(parts.variant) else []
        pipeline = PIPELINES[parts.variant](
            **parts_of(parts.text, *names),
            vae=parts.vae,
            scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULE),
            transformer=parts.denoiser,
        )
        if "processor" in names and parts.text is not None:
            # What a saved model_index.json names must be there without Frisket.
            pipeline.register_to_config(processor=("transformers", "Qwen2VLProcessor"))
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
        """Embeddings by the pipeline's names, guided by `true_cfg_scale`; the pictures, if any.

        QwenImageEditPlusPipeline (2509, 2511) takes one sample a call, the others several.
        """
        kwargs = {
            "prompt_embeds": positive["text"],
            "prompt_embeds_mask": positive["mask"],
            "negative_prompt_embeds": None if negative is None else negative["text"],
            "negative_prompt_embeds_mask": None if negative is None else negative["mask"],
            "true_cfg_scale": guidance if negative is not None else 1.0,
            "max_sequence_length": TOKENS,
        }
        if not self._sees(variant):
            return kwargs
        pictures = seeing.pictures_of(references)
        several = PIPELINES[variant] is QwenImageEditPlusPipeline
        seeing.check_count(len(pictures), several=several, prompt="")
        return {**kwargs, "image": pictures if several else pictures[0]}

    def tiny(self, variant: str) -> Parts:
        """Two layers of 32 channels, an 8-channel VAE, a byte tokenizer that sees; seeded."""
        with tiny.seed_torch():
            vae = AutoencoderKLQwenImage(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
            encoder = qwen_text.tiny_encoder()
            denoiser = QwenImageTransformer2DModel(
                num_layers=2,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=16,
                axes_dims_rope=(8, 4, 4),
                **ARCHITECTURES[variant],
            )
        text = {"tokenizer": qwen_text.tiny_tokenizer()}
        if self._sees(variant):
            text["processor"] = qwen_text.tiny_processor()
            vae.register_to_config(**{seeing.AREA: 32 * 32})
        bundle = self._bundle(variant, **text, text_encoder=encoder)
        return Parts(variant, *tiny.quiet(vae, bundle, denoiser))

    def rehearsal_parts(self, source: Source) -> Parts:
        """`tiny`, but pictures are shown to the VAE as large as to that of `source`."""
        parts = self.tiny(source.variant)
        if parts.vae is not None and self._sees(source.variant):
            seeing.look_as(parts.vae, source)
        return parts

    def _sees(self, variant: str) -> bool:
        return self.variants[variant].sees == "pictures"

    def _bundle(self, variant: str, **parts: Any) -> TextBundle:
        if not self._sees(variant):
            return TextBundle(**parts)
        return EditText(several=PIPELINES[variant] is QwenImageEditPlusPipeline, **parts)


def _only_frame(clip: Tensor) -> None:
    if clip.shape[2] != 1:
        raise ValueError(f"Qwen-Image makes pictures: a clip of {clip.shape[2]} frames is none")


def _statistics(vae: nn.Module, device: torch.device) -> tuple[Tensor, Tensor]:
    config: Any = vae.config
    view = (1, -1, 1, 1, 1)
    mean = torch.tensor(config.latents_mean, device=device).view(view)
    return mean, torch.tensor(config.latents_std, device=device).view(view)


FAMILY: Family = QwenImage()
