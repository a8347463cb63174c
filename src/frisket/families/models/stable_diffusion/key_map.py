"""Stable Diffusion's UNets in the names of their authors' release: rows for a table of names."""

from collections.abc import Iterator, Sequence

from frisket.families.presets import presets

TRANSFORMER = (
    "attn1.to_q",
    "attn1.to_k",
    "attn1.to_v",
    "attn1.to_out.0",
    "attn2.to_q",
    "attn2.to_k",
    "attn2.to_v",
    "attn2.to_out.0",
    "ff.net.0.proj",
    "ff.net.2",
)
RESNET = {
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.2": "conv_out",
}

# What kohya's LoRA adds with a conv_dim: all of the residual blocks (their linear layer and 1 x 1
# shortcut at the rank of the rest) and of the samplers.
CONVOLUTIONS = (
    *("conv1", "conv2", "time_emb_proj", "conv_shortcut"),
    *("downsamplers.0.conv", "upsamplers.0.conv"),
)
PRESETS = {
    **presets(blocks="attentions|resnets|downsamplers|upsamplers"),
    "attn-mlp": ("/attentions/",),
    # LyCORIS's unet-convblock-only
    "conv": ("/resnets|downsamplers|upsamplers|^conv_(in|out)$/",),
}


def rows(attention: Sequence[bool], layers: int = 2) -> dict[str, str]:
    """Every layer of a UNet, original name to diffusers name; `{}` is a transformer block's number.

    `attention` says for each down block whether it attends; the up blocks mirror them. `layers` is
    diffusers' layers_per_block. The release numbers all blocks of one direction in one row: first
    the input convolution, then each layer, and a block's downsampler after its layers.
    """
    table = dict(ENDS)
    last = len(attention) - 1
    for block, attends in enumerate(attention):
        for layer in range(layers):
            place = f"input_blocks.{1 + block * (layers + 1) + layer}"
            table.update(_layer(place, f"down_blocks.{block}", layer, attends))
        if block < last:
            place = f"input_blocks.{(block + 1) * (layers + 1)}"
            table[f"{place}.0.op"] = f"down_blocks.{block}.downsamplers.0.conv"
    table.update(_resnet("middle_block.0", "mid_block.resnets.0"))
    table.update(_transformer("middle_block.1", "mid_block.attentions.0"))
    table.update(_resnet("middle_block.2", "mid_block.resnets.1"))
    for block, attends in enumerate(reversed(attention)):
        for layer in range(layers + 1):
            place = f"output_blocks.{block * (layers + 1) + layer}"
            table.update(_layer(place, f"up_blocks.{block}", layer, attends))
        if block < last:
            # It follows the last layer in that layer's own place: after the attention, if any.
            table[f"{place}.{1 + attends}.conv"] = f"up_blocks.{block}.upsamplers.0.conv"
    return table


def _layer(place: str, block: str, layer: int, attends: bool) -> Iterator[tuple[str, str]]:
    yield from _resnet(f"{place}.0", f"{block}.resnets.{layer}")
    if attends:
        yield from _transformer(f"{place}.1", f"{block}.attentions.{layer}")


def _resnet(place: str, block: str) -> Iterator[tuple[str, str]]:
    for original, name in RESNET.items():
        yield f"{place}.{original}", f"{block}.{name}"


def _transformer(place: str, block: str) -> Iterator[tuple[str, str]]:
    for name in ("proj_in", "proj_out"):
        yield f"{place}.{name}", f"{block}.{name}"
    for name in TRANSFORMER:
        inner = f"transformer_blocks.{{}}.{name}"
        yield f"{place}.{inner}", f"{block}.{inner}"
