"""Which tokens patch masking removes, and what that costs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from frisket.families.models.maskdit.model import MaskDiTModel
from frisket.routing.patches import MaskedShape, PatchSelection, RatioPlan, count_block
from frisket.routing.selection import TokenSelection, mark_tokens

PATCH = (1, 2, 2)
XL = MaskedShape(width=1152, depth=28, decoder_width=512, decoder_depth=8)


def draw(weights: torch.Tensor, ratio: float, *, seed: int = 0, first: bool = True):
    select = PatchSelection(zero_weight_first=first)
    return select(weights, PATCH, ratio, torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 0.9), st.floats(0, 1), st.booleans())
def test_the_count_stays_and_tokens_without_weight_go_first(seed, ratio, share, first):
    generator = torch.Generator().manual_seed(seed)
    weights = (torch.rand(3, 1, 2, 4, 6, generator=generator) < share).float()
    chosen = draw(weights, ratio, seed=seed, first=first)
    assert isinstance(chosen, TokenSelection)
    count = chosen.tokens.shape[1]
    assert abs(count - 12 * (1 - ratio)) < 1
    assert chosen.patch == PATCH
    assert not chosen.detached
    assert (chosen.tokens.diff(dim=1) > 0).all()
    assert torch.equal(chosen.kept.sum((1, 2, 3, 4)), torch.full((3,), 4.0 * count))
    assert torch.equal(chosen.importance > 0, chosen.kept > 0)
    if first:
        weighed, stays = mark_tokens(weights, PATCH), mark_tokens(chosen.kept, PATCH)
        for tokens, kept in zip(weighed.flatten(1), stays.flatten(1), strict=True):
            assert int((tokens & kept).sum()) == min(count, int(tokens.sum()))


@pytest.mark.parametrize("first", [True, False])
def test_importance_undoes_the_draw_where_a_token_may_stay(first):
    weights = torch.zeros(1, 1, 1, 4, 8)
    weights[..., :4] = 1  # half of the tokens; a quarter removed
    draws = [draw(weights, 0.25, seed=seed, first=first).importance for seed in range(400)]
    mean = torch.cat(draws).mean(0)
    torch.testing.assert_close(mean, torch.ones_like(mean), rtol=0.2, atol=0.0)


def test_the_same_seed_draws_the_same_and_samples_differ():
    weights = torch.ones(4, 1, 1, 8, 8)
    chosen, again, other = (draw(weights, 0.5, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(chosen.tokens, again.tokens)
    assert not torch.equal(chosen.tokens, other.tokens)
    assert not torch.equal(chosen.tokens[0], chosen.tokens[1])


def test_nothing_removed_is_no_selection_and_nothing_left_is_refused():
    weights = torch.ones(1, 1, 1, 4, 4)
    assert draw(weights, 0.0) is None
    with pytest.raises(ValueError, match=r"patch_masking\.ratio = 0\.9 leaves none of 4 tokens"):
        draw(weights, 0.9)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\), got 1"):
        RatioPlan(ratio=1.0)


def test_the_ratio_ends_where_tuning_without_a_mask_begins():
    for schedule in ("constant", "cosine"):
        plan = RatioPlan(ratio=0.5, schedule=schedule, full_from=0.8)
        ratios = [plan.find_ratio(progress / 10) for progress in range(11)]
        assert ratios[0] == 0.5
        assert ratios[8:] == [0, 0, 0]
        assert sorted(ratios, reverse=True) == ratios


def test_the_formula_gives_the_papers_ratios():
    plain = XL.count_encoder(256)  # DiT-XL/2 at 256 pixels
    assert XL.count(256, 0.5) / plain == pytest.approx(0.55, rel=0.01)
    assert XL.count(256, 0.0) / plain == pytest.approx(1.059, rel=0.01)
    assert XL.count(256, 0.75) / plain == pytest.approx(0.302, rel=0.01)
    assert count_block(8, 2) == 24 * 64 * 2 + 4 * 8 * 4


def test_torch_counts_what_the_formula_says():
    """DiT-XL/2's own geometry, without weights; patches, levels and classes are in the count."""
    counted = {}
    with torch.device("meta"):
        model = MaskDiTModel(text_slots=1, text_width=1000, text_attention=False)
        latents, t, text = torch.empty(1, 4, 1, 32, 32), torch.empty(1), torch.empty(1, 1, 1000)
        for ratio in (0.0, 0.25, 0.5, 0.75):
            kept = torch.empty(1, int(256 * (1 - ratio)), dtype=torch.long) if ratio else None
            with FlopCounterMode(display=False) as counter:
                model(latents, t, text, kept_tokens=kept)
            counted[ratio] = counter.get_total_flops()
            assert counted[ratio] == pytest.approx(XL.count(256, ratio), rel=0.01)
    assert counted[0.5] / XL.count_encoder(256) == pytest.approx(0.55, rel=0.01)
