"""The pocket family's UNets: their shapes, and how pictures and clips go in and come out."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn

from frisket.families.shared.pocket.text import WIDTH
from frisket.families.shared.pocket.vae import IMAGE_CHANNELS
from frisket.shapes import Latents, PerSample

TEMPORAL = 4  # pixel frames behind a latent frame of the clip models
SLOTS = 2  # latent frames of a clip, side by side in the channels
CLIP_CHANNELS = SLOTS * TEMPORAL * IMAGE_CHANNELS
CONDITION_CHANNELS = TEMPORAL + TEMPORAL * IMAGE_CHANNELS  # of `condition`: mask, clean latents
CHANNELS = {  # that the UNet reads
    "image": IMAGE_CHANNELS,
    "video": CLIP_CHANNELS,
    "video-i2v": CLIP_CHANNELS + SLOTS * CONDITION_CHANNELS,
}
CLEAREST = 0.02  # smallest t a clip model's error is divided by
OUTPUT_CHANNELS = {  # that it makes, and a ControlNet's control has
    "image": IMAGE_CHANNELS,
    "video": CLIP_CHANNELS,
    "video-i2v": CLIP_CHANNELS,
}
NOTHING: Mapping[str, Any] = MappingProxyType({})

UNetPlanes = Float[
    Tensor, "r planes h w"
]  # what a UNet reads: frames are rows, or lie in the channels


def build_net(variant: str, widths: tuple[int, int, int] = (64, 96, 96)) -> Any:
    """A fresh UNet of the shipped shape: about 4 M parameters at the default widths."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=CHANNELS[variant],
        out_channels=OUTPUT_CHANNELS[variant],
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=16,
        norm_num_groups=8,
    )


def is_for_clips(denoiser: nn.Module) -> bool:
    """Whether a UNet, wrapped or bare, makes clips: two latent frames of four frames each."""
    bare: Any = getattr(denoiser, "module", denoiser)  # inside DistributedDataParallel
    return bool(bare.config.out_channels == CLIP_CHANNELS)


def is_image_to_video(denoiser: nn.Module) -> bool:
    """Whether a denoiser, wrapped or bare, is the image-to-video UNet."""
    bare: Any = getattr(denoiser, "module", denoiser)
    return bool(bare.config.in_channels == CHANNELS["video-i2v"])


def lay_planes(latents: Latents, denoiser: nn.Module) -> UNetPlanes:
    """Latent frames as a UNet reads them: rows for that of pictures, channels for that of clips.

    A still (f = 1) is for the clip model a clip in which nothing moves: its latent frame twice.
    ValueError for a clip of another length.
    """
    frames = latents.transpose(1, 2)  # b f c h w
    if not is_for_clips(denoiser):
        return frames.flatten(0, 1)
    count = frames.shape[1]
    if count > SLOTS:
        raise ValueError(
            f"the pocket clip model makes 1 or 5 frames, not {1 + TEMPORAL * (count - 1)}"
        )
    return (frames.expand(-1, SLOTS, -1, -1, -1) if count == 1 else frames).flatten(1, 2)


def predict_planes(
    denoiser: nn.Module,
    noisy: Latents,
    t: PerSample,
    conditioning: Mapping[str, Tensor],
    residuals: Mapping[str, Any] = NOTHING,
) -> Latents:
    """The velocity, float32; the UNet is told t * 1000, and `residuals` of a ControlNet by name.

    ValueError where `condition` of `first_frame.show_clip` is lacking, or there for another model.

    Inside, the clip model names the clean clip (96 channels of noise do not fit through its 64
    features, a clean clip does), so that its velocity is (noisy - clean) / t.
    """
    weight = next(denoiser.parameters())
    count, rows = noisy.shape[2], len(noisy)
    tokens = conditioning["tokens"].to(noisy.device, weight.dtype)
    t = t.to(noisy.device)
    planes = lay_planes(noisy, denoiser)
    repeats = len(planes) // rows
    tokens, t = tokens.repeat_interleave(repeats, 0), t.repeat_interleave(repeats, 0)
    planes_read = add_condition(planes, conditioning, denoiser).to(weight.dtype)
    velocity: Tensor = denoiser(planes_read, t * 1000, tokens, return_dict=False, **residuals)[0]
    if is_for_clips(denoiser):
        velocity = (planes - velocity.float()) / t.clamp_min(CLEAREST).view(-1, 1, 1, 1)
        velocity = velocity.unflatten(1, (SLOTS, -1)).flatten(0, 1)
    velocity = velocity.unflatten(0, (rows, -1)).transpose(1, 2)
    return velocity[:, :, :count].float()


def add_condition(
    planes: UNetPlanes, conditioning: Mapping[str, Tensor], denoiser: nn.Module
) -> Float[Tensor, "r all h w"]:
    """What the image-to-video UNet reads: noisy planes, then those of what it is shown."""
    bare: Any = getattr(denoiser, "module", denoiser)
    if "condition" in conditioning:
        condition = conditioning["condition"].to(planes.device)
        planes = torch.cat([planes, lay_planes(condition, denoiser)], dim=1)
    if planes.shape[1] != bare.config.in_channels:
        raise ValueError(
            f"this pocket UNet reads {bare.config.in_channels} channels and was given"
            f" {planes.shape[1]}: an image-to-video model needs what `image_conditioning` gives,"
            " and no other takes it. Check model.variant, or prepare the data again."
        )
    return planes


def draw_net(variant: str) -> Any:
    """A narrow random UNet, seeded; torch's generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_net(variant, (16, 32, 32))
