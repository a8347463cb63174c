"""Counted operations of a step, beside those of the formula, with and without routing."""

import pytest
import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, WanTransformer3DModel
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from frisket.adapters import lora
from frisket.families.base import FAMILIES, default_targets
from frisket.routing.flops import (
    SAVED_SCORES,
    BlockCost,
    StepCost,
    TokenCost,
    UnknownRows,
    count_step,
    expect_routed,
    mix_ratios,
)
from frisket.routing.router import Router
from frisket.routing.selection import TokenSelection

WITHIN = 0.01
START, END = 2, -4


def build_wan():
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=32,
        ffn_dim=96,
        num_layers=12,
        rope_max_seq_len=64,
    )


def build_flux():
    return FluxTransformer2DModel(
        in_channels=64,
        num_layers=4,
        num_single_layers=8,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 6, 6),
    )


def build_sd3():
    return SD3Transformer2DModel(
        sample_size=64,
        num_layers=12,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=16,
        pos_embed_max_size=64,
        dual_attention_layers=(0, 1, 2),
        qk_norm="rms_norm",
    )


MODELS = {
    "wan": (build_wan, {"text": (2, 24, 32)}),
    "flux": (build_flux, {"text": (2, 24, 32), "pooled": (2, 16)}),
    "sd3": (build_sd3, {"text": (2, 24, 32), "pooled": (2, 16)}),
}


def build_step(name, *, adapter=True):
    """A denoiser of twelve blocks, and a call that predicts for two samples of 16 x 16 cells."""
    family = FAMILIES.load(name)
    build, shapes = MODELS[name]
    torch.manual_seed(0)
    denoiser = build().requires_grad_(False).train()
    if adapter:
        targets, dead = default_targets(family, family.default)
        spec = lora.LoraSpec(rank=2, targets=targets, dead=dead)
        lora.attach(denoiser, spec, seed=0, streams=family.streams)
    else:
        denoiser.requires_grad_(True)
    frames = 2 if name == "wan" else 1
    noisy = torch.randn(2, 16, frames, 16, 16)
    conditioning = {key: torch.randn(shape) for key, shape in shapes.items()}
    t = torch.tensor([0.5, 0.9])
    return family, denoiser, lambda: family.predict(denoiser, noisy, t, conditioning)


def measure(call) -> int:
    """FLOPs of a forward and a backward pass by torch's counter, attention in plain products."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call().sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", MODELS)
def test_a_step_of_all_weights_costs_what_the_formula_says(name):
    family, denoiser, call = build_step(name, adapter=False)
    cost = count_step(denoiser, family.streams, call, backward=SAVED_SCORES)
    assert cost.count() == pytest.approx(measure(call), rel=WITHIN)


@pytest.mark.parametrize("name", MODELS)
def test_steps_with_and_without_routing_cost_what_the_formula_says(name):
    family, denoiser, call = build_step(name)
    cost = count_step(denoiser, family.streams, call, backward=SAVED_SCORES)
    whole = measure(call)
    assert cost.count() == pytest.approx(whole, rel=WITHIN)
    router = Router(denoiser, family.routes, family.streams, START, END)
    for share in (0.5, 0.25):
        count = int(share * cost.tokens)
        with router.carry(select_tokens(cost.tokens, count, frames=2 if name == "wan" else 1)):
            routed = measure(call)
        assert cost.count_routed(count, START, END) == pytest.approx(routed, rel=WITHIN)
        assert cost.predict_ratio(share, START, END) == pytest.approx(whole / routed, rel=WITHIN)


def select_tokens(total, count, *, frames):
    side = int((total / frames) ** 0.5)
    tokens = torch.randperm(total)[:count].sort().values[None]
    cells = torch.ones(1, 1, frames, 2 * side, 2 * side)
    return TokenSelection(tokens, (frames, side, side), cells, cells)


def test_a_forward_pass_alone_and_recomputed_blocks_are_counted():
    family, denoiser, call = build_step("wan")
    with torch.no_grad():
        forward = count_step(denoiser, family.streams, call)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call()
    assert forward.count() == pytest.approx(counter.get_total_flops(), rel=WITHIN)
    plain = count_step(denoiser, family.streams, call, backward=SAVED_SCORES)
    again = count_step(denoiser, family.streams, call, backward=SAVED_SCORES, checkpointed=True)
    denoiser.enable_gradient_checkpointing()
    measured = measure(call)
    assert again.count() == pytest.approx(measured, rel=WITHIN)
    assert again.count() > plain.count()
    both = plain + forward  # a frozen teacher beside the student
    assert both.count() == pytest.approx(plain.count() + forward.count())


def test_wan_by_hand():
    """a and b of the docstring, of one block with 48 channels, 96 in its middle and 24 words."""
    family, denoiser, call = build_step("wan")
    lora.detach(denoiser)
    with torch.no_grad():
        block = count_step(denoiser, family.streams, call).blocks[5]
    width, words, batch = 48, 24, 2
    projections = 2 * batch * (6 * width**2 + 2 * width * 96)
    cross = 4 * batch * width * words
    assert block.linear == TokenCost(2 * batch * 2 * width**2 * words, projections)
    assert block.attention == TokenCost(0, cross, 4 * batch * width)


def test_a_model_without_tokens_is_refused_by_name():
    family = FAMILIES.load("stable_diffusion")
    parts = family.tiny("sd15")
    conditioning = family.embed(parts.text, ["a portrait"])
    call = lambda: family.predict(  # noqa: E731
        parts.denoiser, torch.randn(1, 4, 1, 8, 8), torch.tensor([0.5]), conditioning
    )
    with pytest.raises(UnknownRows, match="UNet2DConditionModel has no sequence of tokens"):
        count_step(parts.denoiser, family.streams, call)
    with pytest.raises(UnknownRows, match="was not called"):
        count_step(parts.denoiser, family.streams, lambda: None)


shares = st.floats(0.01, 1.0)
costs = st.floats(0.0, 1e12)


@given(a=st.floats(1.0, 1e12), b=costs, share=shares, layers=st.integers(7, 60))
def test_the_ratio_is_that_of_the_papers_formula(a, b, share, layers):
    tokens = 1000
    block = BlockCost(TokenCost(per_token=a / tokens), TokenCost(per_pair=b / tokens**2))
    cost = StepCost((block,) * layers, 0.0, tokens)
    rho = (layers - 6) / layers
    expected = 1 / ((1 - rho) + rho * (a * share + b * share**2) / (a + b))
    ratio = cost.predict_ratio(share, START, END)
    assert ratio == pytest.approx(expected)
    assert ratio * (1 + 1e-9) >= 1
    assert ratio <= 1 / (1 - rho) * (1 + 1e-9)
    assert cost.measure_window(START, END) == pytest.approx(rho)


@given(ratio=st.floats(1.0, 20.0), chance=st.floats(0.0, 1.0), full_from=st.floats(0.0, 1.0))
def test_full_steps_take_their_part_of_the_gain(ratio, chance, full_from):
    routed = expect_routed(chance, full_from)
    mixed = mix_ratios(ratio, routed)
    assert mixed * (1 + 1e-9) >= 1
    assert mixed <= ratio * (1 + 1e-9)
    assert mix_ratios(ratio, 1.0) == pytest.approx(ratio)
    assert mix_ratios(ratio, 0.0) == 1.0


def test_windows_and_counts_that_cannot_be_are_refused():
    cost = StepCost((BlockCost(TokenCost(per_token=1.0)),) * 6, 0.0, 8)
    with pytest.raises(ValueError, match=r"the window \[2, -4\) has none of the 6 blocks"):
        cost.count_routed(4, 2, -4)
    for kept in (0, 9):
        with pytest.raises(ValueError, match="kept tokens of 8"):
            cost.count_routed(kept, 0, 6)
