"""Image attention, strict confinement and decoupled guidance: against diffusers, in pipelines."""

from functools import partial
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.transformers.transformer_flux import FluxIPAdapterAttnProcessor
from tests.contracts.test_methods import WIDTH, make_adapter
from tests.inference.freefuse.test_families import count_hooks, draw
from tests.inference.identity import scene
from tests.inference.identity.test_peers import _join
from torch import Tensor, nn

from frisket.families.base import FAMILIES
from frisket.families.control.masking import resample_area
from frisket.inference.methods.identity.attention_maps import (
    ChangedAttention,
    ScheduledMask,
    match_moments,
)
from frisket.inference.methods.identity.decoupled import DecoupledGuidance
from frisket.inference.methods.identity.guidance import (
    GuidanceStrength,
    combine_decoupled,
)
from frisket.inference.methods.identity.image_attention import (
    ImageAdapter,
    ImageAttention,
    LayerPlace,
    RowOwners,
)
from frisket.inference.methods.identity.region_masks import lay_on_rows
from frisket.inference.methods.identity.rescale import (
    MergeSchedule,
    put_tokens,
    rescale_to_output,
    rescale_tokens,
)
from frisket.inference.methods.identity.strict import StrictConfinement, blend_predictions
from frisket.inference.sample_specs import build_spec

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_a_unet_layer_gives_what_diffusers_gives(masked: bool) -> None:
    attention, (keys, values) = scene.build_attention(), scene.build_projections()
    states, text, tokens = scene.draw_states()
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 1:3, 2:] = 1
    adapter = ImageAdapter(
        {"layer": keys}, {"layer": values}, tokens, scale=0.8, mask=mask if masked else None
    )
    query = attention.to_q(states).unflatten(-1, (scene.HEADS, -1))
    handle = attention.to_out[0].register_forward_pre_hook(partial(_join, adapter, query))
    given = attention(states, text)
    handle.remove()
    processor = IPAdapterAttnProcessor2_0(scene.WIDTH, scene.TEXT, (scene.TOKENS,), 0.8)
    processor.to_k_ip[0], processor.to_v_ip[0] = keys, values
    attention.set_processor(processor)
    more = {"ip_adapter_masks": [mask]} if masked else {}
    theirs = attention(states, (text, [tokens[:, None] if masked else tokens]), **more)
    torch.testing.assert_close(given, theirs, **CLOSE)


@torch.no_grad()
def test_flux_gives_what_its_processor_gives() -> None:
    family = FAMILIES.load("flux")
    denoiser: Any = family.tiny("dev").denoiser
    layers = [one for one in family.list_attention_layers(denoiser) if one.add_branch]
    adapter = make_adapter(layers, scale=0.7)
    grid = torch.cartesian_prod(torch.zeros(1), torch.arange(2.0), torch.arange(3.0))
    config = denoiser.config
    call = {
        "hidden_states": scene.draw(1, 2, 6, config.in_channels),
        "encoder_hidden_states": scene.draw(2, 2, 5, config.joint_attention_dim),
        "pooled_projections": scene.draw(3, 2, config.pooled_projection_dim),
        "timestep": torch.full((2,), 0.5),
        "guidance": torch.full((2,), 3.0),
        "img_ids": grid,
        "txt_ids": torch.zeros(5, 3),
    }
    owners = RowOwners(torch.arange(2), (True, True))
    bare = denoiser(**call).sample
    with ImageAttention(layers, [adapter]).attach_branches(lambda _: owners):
        given = denoiser(**call).sample
    for layer in layers:
        width = adapter.keys[layer.name].weight.shape[0]  # type: ignore[attr-defined]
        processor = FluxIPAdapterAttnProcessor(width, WIDTH, (3,), 0.7)
        for own, ours in ((processor.to_k_ip, adapter.keys), (processor.to_v_ip, adapter.values)):
            own[0] = ours[layer.name]  # type: ignore[assignment]
        layer.module.set_processor(processor)  # type: ignore[operator]
    theirs = denoiser(**call, joint_attention_kwargs={"ip_hidden_states": [adapter.tokens]}).sample
    assert not torch.allclose(theirs, bare, **CLOSE)
    torch.testing.assert_close(given, theirs, **CLOSE)


@torch.no_grad()
def test_methods_run_in_a_pipeline_and_leave_it_as_it_was() -> None:
    family = FAMILIES.load("pocket")
    parts = family.tiny("image")
    denoiser: Any = parts.denoiser
    layers = family.list_attention_layers(denoiser)
    adapter = make_adapter(layers)
    adapter = ImageAdapter(
        adapter.keys, adapter.values, adapter.tokens[:1], adapter.negative, scale=2.0
    )
    spec = build_spec(
        family.variants["image"], "a red fox", 3, height=16, width=16, steps=2, guidance=2.0
    )
    sample = partial(draw, family, parts, spec)
    hooks, plain = count_hooks(denoiser), sample()
    attention = ImageAttention(layers, [adapter])
    moved = sample(attention)
    assert not torch.equal(moved, plain)
    ones = torch.ones(1, 1, 2, 2)
    assert torch.equal(sample(StrictConfinement(denoiser, attention, ones)), moved)
    assert torch.equal(sample(StrictConfinement(denoiser, attention, 0 * ones)), plain)

    def guide(*strengths: GuidanceStrength, **options: Any) -> scene.GuidedAttention:
        return scene.GuidedAttention(
            attention, DecoupledGuidance(family, denoiser, attention, *strengths, **options)
        )

    for kind in ("identity", "text"):
        plainly = sample(guide(GuidanceStrength(2.0), GuidanceStrength(2.0), kind=kind))
        torch.testing.assert_close(plainly, moved, rtol=0, atol=1e-4)
    for kind in ("identity", "text", "apart"):
        assert not torch.equal(
            sample(guide(GuidanceStrength(1.0), GuidanceStrength(6.0), kind=kind)), moved
        )
    assert torch.equal(sample(), plain)
    assert count_hooks(denoiser) == hooks


def test_a_mask_is_laid_by_area_and_never_beyond_itself() -> None:
    mask = torch.rand(2, 1, 7, 5, generator=torch.Generator().manual_seed(0))
    laid = resample_area(mask, (1, 3, 4))
    torch.testing.assert_close(laid.mean((1, 2, 3)), mask.mean((1, 2, 3)), **CLOSE)
    assert laid.amin() >= mask.amin()
    assert laid.amax() <= mask.amax()
    assert torch.equal(resample_area(mask, (1, 7, 5)), mask)
    half = torch.tensor([[[[1.0, 0.0, 0.0]]]])
    assert resample_area(half, (1, 1, 2)).tolist() == [[[[pytest.approx(2 / 3), 0.0]]]]
    clip = torch.rand(1, 3, 2, 2)
    rows = lay_on_rows(clip, (1, 2, 2), torch.tensor([0, 0]), frames=3)
    assert torch.equal(rows[3:, :, 0], clip[0].flatten(1))


def test_guidance_by_one_strength_is_the_plain_one_and_samples_are_apart() -> None:
    negative, middle, full = scene.draw_predictions(batch=3)
    for kind in ("identity", "text"):
        guided = combine_decoupled(negative, middle, full, first=4.0, second=4.0, kind=kind)  # type: ignore[arg-type]
        torch.testing.assert_close(guided, negative + 4.0 * (full - negative), **CLOSE)
    options = {"first": 1.5, "second": 3.0, "renorm": True, "rescale": 0.75}
    whole = combine_decoupled(negative, middle, full, **options)
    alone = combine_decoupled(negative[:1], middle[:1], full[:1], **options)
    torch.testing.assert_close(whole[:1], alone, **CLOSE)
    matched = combine_decoupled(negative, middle, full, first=1.5, second=3.0, rescale=1.0)
    wanted = (middle.std((1, 2, 3)) + full.std((1, 2, 3))) / 2
    torch.testing.assert_close(matched.std((1, 2, 3)), wanted, **CLOSE)
    strength = GuidanceStrength(values=(1.0, 3.0, 2.0))
    assert [strength.at(step, 0.5) for step in range(3)] == [1.0, 3.0, 2.0]
    with pytest.raises(ValueError, match="step 4"):
        strength.at(3, 0.1)


def test_a_changed_map_of_one_row_is_that_row_in_a_batch() -> None:
    attend = ChangedAttention(ScheduledMask().change, background=(0,), weight=0.7)
    place = LayerPlace("up_blocks.1", 0)
    parts = [scene.draw(seed, 3, count, 2, 8) for seed, count in ((1, 9), (2, 4), (3, 4))]
    whole = attend(*parts, place)
    torch.testing.assert_close(whole[1:2], attend(*(p[1:2] for p in parts), place), **CLOSE)
    values = scene.draw(4, 2, 5)
    torch.testing.assert_close(match_moments(values, values + 3, 1.0), values)
    with pytest.raises(ValueError, match="there are 4"):
        ChangedAttention(ScheduledMask().change, tokens=(4,))(*parts, place)


def test_rescaling_meets_the_norms_and_stays_finite() -> None:
    branch, output = scene.draw(1, 3, 6, 4), scene.draw(2, 3, 6, 4)
    branch[1] = 0
    joined = rescale_to_output(branch, output)
    wanted = output.flatten(1).norm(dim=1)
    torch.testing.assert_close(joined[::2].flatten(1).norm(dim=1), wanted[::2], **CLOSE)
    assert torch.equal(joined[1], torch.zeros(6, 4))
    torch.testing.assert_close(rescale_to_output(100 * branch, output), joined, **CLOSE)
    tokens = rescale_tokens(scene.draw(3, 2, 3, 8), torch.tensor([1.0, 2.0, 3.0]), scale=1.8)
    torch.testing.assert_close(tokens.norm(dim=-1), 1.8 * torch.tensor([[1.0, 2, 3]] * 2), **CLOSE)
    text = scene.draw(4, 2, 7, 8)
    spliced = put_tokens(text, tokens)
    assert torch.equal(spliced, torch.cat([text[:, :1], tokens, text[:, 1:4]], 1))
    schedule = MergeSchedule()
    assert list(schedule.list_adapter_scales()) == [0.8] * 5 + [1.2]
    adapter = ImageAdapter({}, {}, torch.zeros(1, 1, 1), scale=schedule.list_adapter_scales())
    assert [adapter.scale_at(step) for step in (4, 5, 29)] == [0.8, 1.2, 1.2]


def test_a_blend_is_each_side_bit_for_bit() -> None:
    changed, base = scene.draw(1, 2, 3, 4, 4), scene.draw(2, 2, 3, 4, 4)
    changed[..., 0] = torch.nan
    mask: Tensor = torch.zeros(1, 1, 4, 4)
    mask[..., 2:] = 1
    blended = blend_predictions(changed, base, mask)
    assert torch.equal(blended[..., :2], base[..., :2])
    assert torch.equal(blended[..., 2:], changed[..., 2:])


def test_an_adapter_for_another_model_is_refused_by_name() -> None:
    linear = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="no place"):
        ImageAttention([], [ImageAdapter({"up": linear}, {"up": linear}, torch.zeros(1, 1, 2))])
    with pytest.raises(ValueError, match="without values"):
        ImageAdapter({"up": linear}, {}, torch.zeros(1, 1, 2))
