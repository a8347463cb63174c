"""What Black Forest Labs' checkpoints call the layers of FLUX.1 and FLUX.2."""

from frisket.families.key_map import Names

DOUBLE, SINGLE = "double_blocks.{}", "single_blocks.{}"
BLOCKS, SINGLES = "transformer_blocks.{}", "single_transformer_blocks.{}"


def _mlp(original: str, diffusers: str) -> dict[str, str]:
    """An embedder of two linear layers."""
    return {
        f"{original}.in_layer": f"{diffusers}.linear_1",
        f"{original}.out_layer": f"{diffusers}.linear_2",
    }


# Of the joint attention of the double blocks: the same in both generations.
ATTENTION: dict[str, str | tuple[str, ...]] = {
    f"{DOUBLE}.img_attn.qkv": tuple(f"{BLOCKS}.attn.{name}" for name in ("to_q", "to_k", "to_v")),
    f"{DOUBLE}.txt_attn.qkv": tuple(f"{BLOCKS}.attn.add_{name}_proj" for name in "qkv"),
    f"{DOUBLE}.img_attn.proj": f"{BLOCKS}.attn.to_out.0",
    f"{DOUBLE}.txt_attn.proj": f"{BLOCKS}.attn.to_add_out",
}

# The original computes shift then scale, diffusers scale then shift.
HEAD = {"final_layer.adaLN_modulation.1": "norm_out.linear"}

FLUX_1 = Names(
    {
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        **_mlp("time_in", "time_text_embed.timestep_embedder"),
        **_mlp("vector_in", "time_text_embed.text_embedder"),
        **_mlp("guidance_in", "time_text_embed.guidance_embedder"),
        **ATTENTION,
        f"{DOUBLE}.img_mod.lin": f"{BLOCKS}.norm1.linear",
        f"{DOUBLE}.txt_mod.lin": f"{BLOCKS}.norm1_context.linear",
        f"{DOUBLE}.img_mlp.0": f"{BLOCKS}.ff.net.0.proj",
        f"{DOUBLE}.img_mlp.2": f"{BLOCKS}.ff.net.2",
        f"{DOUBLE}.txt_mlp.0": f"{BLOCKS}.ff_context.net.0.proj",
        f"{DOUBLE}.txt_mlp.2": f"{BLOCKS}.ff_context.net.2",
        f"{SINGLE}.linear1": (
            f"{SINGLES}.attn.to_q",
            f"{SINGLES}.attn.to_k",
            f"{SINGLES}.attn.to_v",
            f"{SINGLES}.proj_mlp",
        ),
        f"{SINGLE}.linear2": f"{SINGLES}.proj_out",
        f"{SINGLE}.modulation.lin": f"{SINGLES}.norm.linear",
        "final_layer.linear": "proj_out",
    },
    sliced=".*",
    turned=HEAD,
)

FLUX_2 = Names(
    {
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        **_mlp("time_in", "time_guidance_embed.timestep_embedder"),
        **_mlp("guidance_in", "time_guidance_embed.guidance_embedder"),
        "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
        "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
        "single_stream_modulation.lin": "single_stream_modulation.linear",
        **ATTENTION,
        f"{DOUBLE}.img_mlp.0": f"{BLOCKS}.ff.linear_in",
        f"{DOUBLE}.img_mlp.2": f"{BLOCKS}.ff.linear_out",
        f"{DOUBLE}.txt_mlp.0": f"{BLOCKS}.ff_context.linear_in",
        f"{DOUBLE}.txt_mlp.2": f"{BLOCKS}.ff_context.linear_out",
        f"{SINGLE}.linear1": f"{SINGLES}.attn.to_qkv_mlp_proj",
        f"{SINGLE}.linear2": f"{SINGLES}.attn.to_out",
        "final_layer.linear": "proj_out",
    },
    sliced=r"(single_)?transformer_blocks[.].*|x_embedder|context_embedder|norm_out[.].*|proj_out",
    turned=HEAD,
)
