"""Attention layers by the class of a denoiser, for families whose model is one of diffusers'."""

from collections.abc import Callable, Mapping

from torch import nn

from frisket.attention.base import AttentionLayer
from frisket.families.shared.attention import cross, double_stream, hunyuan, single_stream

LISTS: Mapping[str, Callable[[nn.Module], tuple[AttentionLayer, ...]]] = {
    "UNet2DConditionModel": cross.list_unet_layers,
    "WanTransformer3DModel": cross.list_wan_layers,
    "FluxTransformer2DModel": double_stream.list_flux_layers,
    "Flux2Transformer2DModel": double_stream.list_flux2_layers,
    "SD3Transformer2DModel": double_stream.list_sd3_layers,
    "QwenImageTransformer2DModel": double_stream.list_qwen_layers,
    "QwenImage21Transformer2DModel": single_stream.list_qwen21_layers,
    "ZImageTransformer2DModel": single_stream.list_z_image_layers,
    "HunyuanVideoTransformer3DModel": hunyuan.list_hunyuan_layers,
    "HunyuanVideo15Transformer3DModel": hunyuan.list_hunyuan15_layers,
}


def list_attention_layers(denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
    """The layers of a plain model of a class in `LISTS` (or beneath one); () for any other."""
    for kind in type(denoiser).__mro__:
        if kind.__name__ in LISTS:
            return LISTS[kind.__name__](denoiser)
    return ()
