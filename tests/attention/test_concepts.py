"""Saliency in the space of attention outputs, against ConceptAttention's own code.

`peers/concept_attention.json` holds what its model gave (scripts/record_concept_attention.py); the
same weights are put into diffusers' FLUX here. Departures: none in the scores and heat maps.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from tests.attention import concept_scene as scene
from torch import Tensor

from frisket.attention.capture import capture
from frisket.attention.maps import average, compare_phrases
from frisket.families.base import FAMILIES
from frisket.families.shared.attention.concepts import capture_concepts, embed_concepts

RECORD = json.loads(
    (Path(__file__).parent / "peers/concept_attention.json").read_text(encoding="utf-8")
)
CELLS = (1, *scene.CELLS)
NAMES = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
}
BLOCK = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
FUSED = {
    "img_attn.qkv": ("to_q", "to_k", "to_v"),
    "txt_attn.qkv": ("add_q_proj", "add_k_proj", "add_v_proj"),
}


def rename_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names to diffusers', of all that comes before the single blocks."""
    renamed = {}
    for name, value in weights.items():
        module, _, kind = name.rpartition(".")
        kind = kind.replace("scale", "weight")
        if module in NAMES:
            renamed[f"{NAMES[module]}.{kind}"] = value
        elif module.startswith("double_blocks."):
            _, index, inner = module.split(".", 2)
            block = f"transformer_blocks.{index}"
            if inner in FUSED:
                for part, piece in zip(FUSED[inner], value.chunk(3), strict=True):
                    renamed[f"{block}.attn.{part}.{kind}"] = piece
            else:
                renamed[f"{block}.{BLOCK[inner]}.{kind}"] = value
    return renamed


@pytest.fixture(scope="module")
def denoiser() -> FluxTransformer2DModel:
    model = FluxTransformer2DModel(
        in_channels=scene.CHANNELS,
        num_layers=scene.DEPTH,
        num_single_layers=0,
        attention_head_dim=scene.HIDDEN // scene.HEADS,
        num_attention_heads=scene.HEADS,
        joint_attention_dim=scene.TEXT,
        pooled_projection_dim=scene.POOLED,
        axes_dims_rope=scene.AXES,
    )
    weights = rename_weights(scene.draw_weights(RECORD["shapes"]))
    lost, other = model.load_state_dict(weights, strict=False)
    assert not other
    assert {name.split(".")[0] for name in lost} == {"norm_out", "proj_out"}
    return model.eval().requires_grad_(False)


def run(model: FluxTransformer2DModel) -> None:
    inputs = scene.draw_inputs()
    model(
        hidden_states=inputs["image"],
        encoder_hidden_states=inputs["text"],
        pooled_projections=inputs["pooled"],
        timestep=torch.tensor([scene.LEVEL]),
        img_ids=scene.draw_positions(),
        txt_ids=torch.zeros(inputs["text"].shape[1], 3),
    )


def check(calls: list[dict[str, Tensor]], theirs: dict[str, Any]) -> None:
    for maps, scores in zip(calls[0].values(), theirs["scores"], strict=True):
        expected = torch.tensor(scores)
        assert expected.std() > 0.1  # it is no constant that is compared
        torch.testing.assert_close(maps[0].flatten(1), expected, rtol=1e-5, atol=1e-5)
    heat = compare_phrases(average(calls, CELLS))
    torch.testing.assert_close(
        heat[0, :, 0], torch.tensor(theirs["heatmaps"]), rtol=1e-5, atol=1e-5
    )


def test_prompt_tokens_score_as_the_authors_concepts(denoiser):
    layers = FAMILIES.load("flux").list_attention_layers(denoiser)
    tokens = [[[position] for position in range(6)]]
    with capture(layers, tokens, form="output") as seen:
        run(denoiser)
    check([call.maps for call in seen.calls], RECORD["prompt"])


def test_concepts_beside_the_prompt_score_as_the_authors(denoiser):
    inputs = scene.draw_inputs()
    concepts, pooled = inputs["concepts"][0], inputs["concept_pooled"][0]
    with capture_concepts(denoiser, concepts, pooled) as seen:
        run(denoiser)
    check([call.maps for call in seen.calls], RECORD["concepts"])
    with capture_concepts(denoiser, concepts, pooled, "transformer_blocks.0.attn") as some:
        run(denoiser)
    assert list(some.maps) == ["transformer_blocks.0.attn"]
    torch.testing.assert_close(
        some.maps["transformer_blocks.0.attn"], next(iter(seen.maps.values()))
    )
    assert not any(module._forward_hooks for module in denoiser.modules())


def test_concepts_are_for_flux():
    parts = FAMILIES.load("wan").tiny("2.1-t2v-1.3b")
    with (
        pytest.raises(ValueError, match="WanTransformer3DModel has none"),
        capture_concepts(parts.denoiser, torch.zeros(1, 32), torch.zeros(4)),
    ):
        pass


def test_words_become_concepts():
    family = FAMILIES.load("flux")
    parts = family.tiny("dev")
    concepts, pooled = embed_concepts(family, parts.text, ["fox", "wall"])
    assert concepts.shape == (2, 32)
    assert not pooled.any()
    given = family.embed(parts.text, ["a fox on a wall"])
    latents = torch.randn(1, 16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), capture_concepts(parts.denoiser, concepts, pooled) as seen:
        family.predict(parts.denoiser, latents, torch.tensor([0.5]), given)
    assert {maps.shape for maps in seen.maps.values()} == {(1, 2, 1, 4, 4)}
