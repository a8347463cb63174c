"""Routed calls that the cases of all families do not have: reference pictures of several sizes."""

from dataclasses import replace

import pytest
import torch
from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21FlexAttnProcessor
from tests.contracts.conftest import PROMPTS, Case, picture
from tests.contracts.routing.draws import (
    draw_tokens,
    list_all_tokens,
    list_windows,
    shuffle_tokens,
)
from tests.contracts.routing.small_router import carry_tokens
from torch.nn.functional import pad

from frisket.families.base import FAMILIES, Conditioning


def make_case(name: str, variant: str) -> Case:
    family = FAMILIES.load(name)
    return Case(family, variant, family.tiny(variant), {})


def show_kontext(case: Case) -> Conditioning:
    """Each sample a picture of its own size: one call of the transformer each."""
    case = replace(case, conditioning=case.family.embed(case.parts.text, PROMPTS))
    each = [
        case.family.image_conditioning(case.parts.vae, None, case.clip(1, 1), [picture(*size)])
        for size in ((32, 48), (64, 32))
    ]
    longest = max(one["reference"].shape[1] for one in each)
    tokens = [pad(one["reference"], (0, 0, 0, longest - one["reference"].shape[1])) for one in each]
    text = {name: value[:2] for name, value in case.conditioning.items()}
    sizes = torch.cat([one["reference_size"] for one in each])
    return {**text, "reference": torch.cat(tokens), "reference_size": sizes}


def show_edit(case: Case) -> Conditioning:
    """Each sample two pictures of different sizes."""
    references = [[picture(32, 48, seed), picture(48, 32, seed + 1)] for seed in (0, 2)]
    text = case.family.embed(case.parts.text, PROMPTS[:2], references)
    each = [
        case.family.image_conditioning(case.parts.vae, None, case.clip(1, 1), shown)
        for shown in references
    ]
    return {**text, **{name: torch.cat([one[name] for one in each]) for name in each[0]}}


@pytest.mark.parametrize(
    ("name", "variant", "show", "calls"),
    [
        ("flux", "kontext", show_kontext, 2),
        ("qwen_image", "edit-2509", show_edit, 1),
        ("qwen_image", "edit-2511", show_edit, 1),
    ],
)
@torch.no_grad()
def test_reference_pictures_stay_whatever_is_dropped(name, variant, show, calls):
    case = make_case(name, variant)
    denoiser, conditioning = case.parts.denoiser, show(case)

    def predict(given=conditioning, rows=slice(0, 2)):
        return case.family.predict(denoiser, case.latents(1)[rows], case.levels()[rows], given)

    plain, tokens = predict(), draw_tokens(case, 1)
    for window in list_windows(case):
        with carry_tokens(case.family, denoiser, list_all_tokens(case, 1), window):
            assert torch.equal(predict(), plain)
        with carry_tokens(case.family, denoiser, shuffle_tokens(case, 1), window):
            assert torch.allclose(predict(), plain, atol=1e-5)
        with carry_tokens(case.family, denoiser, tokens, window) as (carrier,):
            routed = predict()
        assert len(carrier.left) == calls
        for full, entry, kept in carrier.entered:
            shown = [part.count for part in kept.call.sequences["image"] if part.kind == "other"]
            narrow = kept.take(full, entry.stream)
            assert torch.equal(narrow[:, -sum(shown) :], full[:, -sum(shown) :])
        for row in range(2):
            own = slice(row, row + 1)
            alone = {key: value[own] for key, value in conditioning.items()}
            with carry_tokens(case.family, denoiser, tokens[own], window):
                assert torch.allclose(predict(alone, own), routed[own], atol=1e-5)
    no_picture = {**conditioning}
    pictures = [key for key in conditioning if key.startswith("reference")]
    no_picture[pictures[0]] = torch.zeros_like(conditioning[pictures[0]])
    with carry_tokens(case.family, denoiser, tokens, list_windows(case)[0]):
        assert not torch.allclose(predict(no_picture), predict(), atol=1e-4)


def test_a_mask_that_cannot_be_cut_is_refused_by_name():
    case = make_case("qwen_image_21", "2.1")
    case = replace(case, conditioning=case.family.embed(case.parts.text, PROMPTS))
    case.parts.denoiser.set_attn_processor(QwenImage21FlexAttnProcessor())
    with (
        carry_tokens(case.family, case.parts.denoiser, draw_tokens(case, 1)[:1], (0, 2)),
        pytest.raises(ValueError, match="attention_mask: token routing cannot cut"),
    ):
        case.predict(case.parts.denoiser, batch=1)
