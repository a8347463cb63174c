"""HunyuanVideo-1.5 behind the family's interface: pipelines, texts, prediction."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15Transformer3DModel,
)
from diffusers.pipelines.hunyuan_video1_5.image_processor import HunyuanVideo15ImageProcessor
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    Qwen2_5_VLTextModel,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5EncoderModel,
)

from frisket.families import tiny, weights
from frisket.families.base import Conditioning, Parts, References, Source, Variant
from frisket.families.defaults import TextBundle, parts_of
from frisket.families.experts import first
from frisket.families.models.hunyuan_video.key_map import single_file_15
from frisket.families.models.hunyuan_video.text import (
    HunyuanText,
    cut_to_longest,
    make_tiny_text_15,
    trim_tokens,
)
from frisket.grid import LatentGrid
from frisket.shapes import Latents, PerSample

GRID = LatentGrid(channels=32, spatial=16, temporal=4, patch=1)
TOKENS = 1000  # of a prompt, after the template's
TEXT = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
# Of the released schedulers. Tencent's own train.py trains at 3 ([timesteps] shift), musubi at 2.
SHIFTS = {"480p-t2v": 5.0, "720p-t2v": 9.0, "480p-i2v": 5.0, "720p-i2v": 7.0}
SIZES = {"480p": (480, 848, 640), "720p": (720, 1280, 960)}  # 16:9, and the config's target_size


def variants() -> dict[str, Variant]:
    """The released models that are not distilled, under the family's names for them."""
    cards = {}
    for name, shift in SHIFTS.items():
        resolution, task = name.split("-")
        height, width, _ = SIZES[resolution]
        cards[f"1.5-{name}"] = Variant(
            repo=f"hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-{resolution}_{task}",
            grid=GRID,
            frames=121,
            height=height,
            width=width,
            fps=24.0,
            steps=50,
            guidance=6.0,
            shift=shift,
            sees="first_frame" if task == "i2v" else "nothing",
            like=f"1.5-480p-{task}" if resolution == "720p" else "",
            architecture="hunyuan-video-1.5",
        )
    return cards


def architecture(variant: str) -> dict[str, Any]:
    """What the released transformer/config.json says beyond diffusers' defaults (8.33 B)."""
    _, resolution, task = variant.split("-")
    return {"target_size": SIZES[resolution][2], "task_type": task}


def _with(stock: Any, *names: str) -> Callable[[Any], Any]:
    """A method with the signature of the public pipeline's call, and further options."""
    signature = inspect.signature(stock.__call__)
    kind = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter(name, kind, default=None) for name in names]

    def mark(method: Any) -> Any:
        signed = signature.replace(parameters=[*signature.parameters.values(), *added])
        method.__signature__ = signed
        return method

    return mark


class HunyuanVideo15Pipeline(diffusers.HunyuanVideo15Pipeline):
    """The public pipeline, which takes its guidance from a component, with `guidance_scale` added.

    It has the public one's name, so that what it saves names the public class.
    """

    @_with(diffusers.HunyuanVideo15Pipeline, "guidance_scale")
    def __call__(self, *args: Any, guidance_scale: float | None = None, **kwargs: Any) -> Any:
        """As the public one; `guidance_scale` is this call's alone."""
        with _set_guidance(self, guidance_scale):
            return super().__call__(*args, **kwargs)


class HunyuanVideo15ImageToVideoPipeline(diffusers.HunyuanVideo15ImageToVideoPipeline):
    """The same for image to video, with the picture's size as asked for and not a bucket's."""

    @_with(diffusers.HunyuanVideo15ImageToVideoPipeline, "guidance_scale", "height", "width")
    def __call__(
        self,
        *args: Any,
        height: int | None = None,
        width: int | None = None,
        guidance_scale: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """As the public one; without a size the picture's bucket decides, as there."""
        buckets: Any = self.video_processor  # type: ignore[has-type]
        if height and width:
            self.video_processor = _Sized(height, width, buckets.config.vae_scale_factor)
        try:
            with _set_guidance(self, guidance_scale):
                return super().__call__(*args, **kwargs)
        finally:
            self.video_processor = buckets


class _Sized(HunyuanVideo15ImageProcessor):
    """The image processor of the pipeline for one size."""

    def __init__(self, height: int, width: int, vae_scale_factor: int) -> None:
        super().__init__(do_resize=False, vae_scale_factor=vae_scale_factor)
        self.size = height, width

    def calculate_default_height_width(
        self, height: int, width: int, target_size: int
    ) -> tuple[int, int]:
        return self.size


@contextmanager
def _set_guidance(pipeline: Any, guidance: float | None) -> Iterator[None]:
    guider = pipeline.guider
    if guidance is not None:
        pipeline.guider = guider.new(guidance_scale=guidance)
    try:
        yield
    finally:
        pipeline.guider = guider


def pipeline(parts: Parts, card: Variant) -> Any:
    """The public pipeline over the parts, Euler flow sampling; it needs the VAE."""
    common = {
        **parts_of(parts.text, *TEXT),
        "vae": parts.vae if parts.vae is None else enable_slicing(parts.vae),
        "transformer": parts.denoiser,
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=card.shift),
        "guider": ClassifierFreeGuidance(guidance_scale=card.guidance),
    }
    if card.sees == "nothing":
        return HunyuanVideo15Pipeline(**common)
    seeing = parts_of(parts.vision, "image_encoder", "feature_extractor")
    return HunyuanVideo15ImageToVideoPipeline(**common, **seeing)


def call(
    card: Variant,
    positive: Conditioning,
    negative: Conditioning | None,
    guidance: float,
    references: References,
) -> dict[str, Any]:
    """Embeddings by the pipeline's names; without a negative nothing is guided away from."""
    kwargs: dict[str, Any] = {"guidance_scale": guidance if negative is not None else 1.0}
    for prefix, texts in (("", positive), ("negative_", negative or {})):
        if texts:
            kwargs[f"{prefix}prompt_embeds"] = texts["text"]
            kwargs[f"{prefix}prompt_embeds_mask"] = texts["text_mask"]
            kwargs[f"{prefix}prompt_embeds_2"] = texts["glyphs"]
            kwargs[f"{prefix}prompt_embeds_mask_2"] = texts["glyphs_mask"]
    if card.sees == "first_frame":
        kwargs["image"] = Image.fromarray(references[0][0].cpu().numpy())
    return kwargs


def load_text(source: Source, repo: str) -> nn.Module:
    """Qwen2.5-VL's text model (14 GB in bfloat16) and ByT5 for quoted text (0.4 GB)."""
    options = {"torch_dtype": source.dtype, "use_safetensors": True}
    return HunyuanText(
        False,
        tokenizer=weights.load(AutoTokenizer, source, repo, "tokenizer"),
        text_encoder=weights.load(Qwen2_5_VLTextModel, source, repo, "text_encoder", **options),
        tokenizer_2=weights.load(AutoTokenizer, source, repo, "tokenizer_2"),
        text_encoder_2=weights.load(T5EncoderModel, source, repo, "text_encoder_2", **options),
    )


def load_vision(source: Source, repo: str) -> nn.Module:
    """Siglip and its image processor."""
    options = {"torch_dtype": source.dtype, "use_safetensors": True}
    return TextBundle(
        feature_extractor=weights.load(AutoImageProcessor, source, repo, "feature_extractor"),
        image_encoder=weights.load(SiglipVisionModel, source, repo, "image_encoder", **options),
    )


def load_denoiser(source: Source, repo: str) -> Any:
    """`transformer/`, or one .safetensors file with diffusers' or Tencent's names."""
    kind = HunyuanVideo15Transformer3DModel
    file = weights.local(source)
    if file is not None and file.is_file():
        return single_file_15(kind, file, source, architecture(source.variant))
    return weights.denoiser(kind, source, repo, architecture=architecture(source.variant))


def embed(text: TextBundle, prompts: Sequence[str]) -> dict[str, Tensor]:
    """`text` b T d of Qwen, `glyphs` b G d of what stands in quotation marks, and their masks.

    From the two steps of the pipeline's encode_prompt (as such it needs a VAE). Texts are cut at
    1000 and 256 tokens, as upstream does, with a warning.
    """
    stock = diffusers.HunyuanVideo15Pipeline
    device = next(text.parameters()).device
    embeds, mask = stock._get_mllm_prompt_embeds(
        text.text_encoder, text.tokenizer, list(prompts), device
    )
    glyphs, glyphs_mask = stock._get_byt5_prompt_embeds(
        text.tokenizer_2, text.text_encoder_2, list(prompts), device
    )
    return {
        **cut_to_longest(embeds, mask, prompts, "text"),
        **cut_to_longest(glyphs, glyphs_mask, prompts, "glyphs"),
    }


def enable_slicing(vae: nn.Module) -> nn.Module:
    """The VAE, set to take a batch one by one: diffusers' attention mask in it fits no batch."""
    kl: Any = vae
    kl.enable_slicing()
    return vae


def predict(
    denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
) -> Latents:
    """The velocity noise - clean, float32; the model is told t * 1000 in float32.

    The model casts what it makes of the timestep to the timestep's own precision, for which the
    pipeline rounds it (937 is 936 in bfloat16). Here a hook casts after the sines are taken, as
    Tencent's code does. Tokens that no text of the batch has are left out, and so are the 729 zero
    tokens of an image that a text-to-video model is never shown: masked, they reach nothing.
    """
    model = first(denoiser)
    dtype, device = model.x_embedder.proj.weight.dtype, noisy.device
    text, mask = trim_tokens(conditioning["text"], conditioning["text_mask"])
    glyphs, glyphs_mask = trim_tokens(conditioning["glyphs"], conditioning["glyphs_mask"], least=0)
    blank = noisy.new_zeros(len(noisy), 1 + GRID.channels, *noisy.shape[2:])
    image = noisy.new_zeros(len(noisy), 0, model.config.image_embed_dim)
    condition = conditioning.get("seen", blank).to(device, dtype)
    hook = model.time_embed.timestep_embedder.register_forward_pre_hook(
        lambda _, args: (args[0].to(dtype), *args[1:])
    )
    try:
        velocity: Tensor = denoiser(
            hidden_states=torch.cat([noisy.to(dtype), condition], 1),
            timestep=t.to(device, torch.float32) * 1000,
            encoder_hidden_states=text.to(device, dtype),
            encoder_attention_mask=mask.to(device, dtype),
            encoder_hidden_states_2=glyphs.to(device, dtype),
            encoder_attention_mask_2=glyphs_mask.to(device, dtype),
            image_embeds=conditioning.get("image", image).to(device, dtype),
            return_dict=False,
        )[0]
    finally:
        hook.remove()
    return velocity.float()


def tiny_parts(variant: str, card: Variant) -> Parts:
    """Two layers of 32 channels; 4.2 of the 4.5 M parameters are a width that diffusers fixes."""
    seeing = card.sees == "first_frame"
    with tiny.seed_torch():
        vae = AutoencoderKLHunyuanVideo15(
            block_out_channels=(16, 16, 32, 32, 64), layers_per_block=1
        )
        denoiser = HunyuanVideo15Transformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            num_refiner_layers=1,
            mlp_ratio=2.0,
            text_embed_dim=16,
            text_embed_2_dim=16,
            image_embed_dim=16,
            rope_axes_dim=(4, 6, 6),
            target_size=64,
            task_type="i2v" if seeing else "t2v",
        )
        vision = (_tiny_vision(),) if seeing else ()
        return Parts(variant, *tiny.quiet(vae, make_tiny_text_15(), denoiser, *vision))


def _tiny_vision() -> TextBundle:
    siglip = SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=37,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    return TextBundle(
        feature_extractor=SiglipImageProcessorPil(size={"height": 28, "width": 28}),
        image_encoder=SiglipVisionModel(siglip),
    )


def checks(card: Variant, source: Source) -> dict[str, Any]:
    """What the config of this variant's transformer must say; on the hub the name says the task."""
    wanted: dict[str, Any] = {"in_channels": 2 * GRID.channels + 1, "out_channels": GRID.channels}
    if weights.local(source) is not None:  # diffusers never reads it, and its script errs in one
        wanted["task_type"] = "i2v" if card.sees == "first_frame" else "t2v"
    return {**wanted, "use_meanflow": False}
