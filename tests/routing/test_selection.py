"""What teaches is always carried; the rest by chance, and its chance is known."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frisket.routing.selection import BackgroundSelection, grow_tokens, mark_tokens

PATCH = (1, 2, 2)


def lay_square(
    batch: int = 2, frames: int = 1, side: int = 16, at: int = 4, width: int = 4
) -> torch.Tensor:
    weights = torch.zeros(batch, 1, frames, side, side)
    for index in range(batch):
        start = at + 2 * index
        weights[index, :, :, start : start + width, start : start + width] = 0.5
    return weights


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    batch=st.integers(1, 3),
    frames=st.integers(1, 3),
    background=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]),
    share=st.floats(0, 0.5),
    multiple=st.sampled_from([1, 8, 64]),
)
def test_every_token_of_weight_is_kept_and_as_many_of_each_sample(
    seed: int, batch: int, frames: int, background: float, share: float, multiple: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = (torch.rand(batch, 1, frames, 12, 16, generator=generator) < share / 8).float()
    selection = BackgroundSelection(background=background, multiple=multiple)(
        weights, PATCH, generator
    )
    total = frames * 6 * 8
    required = grow_tokens(mark_tokens(weights, PATCH), 1).flatten(1)
    if selection is None:
        needs = required.sum(1)
        wanted = (needs + background * (total - needs)).max()
        assert wanted > 0.85 * total - multiple
        return
    count = selection.tokens.shape[1]
    assert count % multiple == 0 or count == total
    assert count <= 0.85 * total
    for index in range(batch):
        kept = set(selection.tokens[index].tolist())
        assert len(kept) == count
        assert set(required[index].nonzero()[:, 0].tolist()) <= kept
        others = total - int(required[index].sum())
        assert len(kept) - int(required[index].sum()) >= background * others - 1e-6
    assert torch.equal(selection.kept * weights, weights)
    assert torch.equal(selection.importance > 0, selection.kept > 0)
    assert selection.kept.flatten(1).sum(1).tolist() == [4.0 * count] * batch


def test_importance_makes_the_mean_over_all_draws_what_it_was() -> None:
    """Over every subset that can be drawn, each as likely as the other: x in any cell."""
    weights = torch.zeros(1, 1, 1, 2, 3)
    weights[..., 0, 0] = 1
    selecting = BackgroundSelection(background=0.5, dilate=0, multiple=1, max_kept=1.0)
    generator = torch.Generator().manual_seed(0)
    by_tokens = {}
    for _ in range(200):
        selection = selecting(weights, (1, 1, 1), generator)
        assert selection is not None
        by_tokens[tuple(selection.tokens[0].tolist())] = selection.importance
    others = list(itertools.combinations(range(1, 6), 3))  # half of five, rounded up
    assert sorted(by_tokens) == [(0, *rest) for rest in others]
    mean = torch.stack(list(by_tokens.values())).mean(0)
    assert torch.allclose(mean, torch.ones_like(mean))


def test_a_mask_of_nearly_everything_is_carried_whole() -> None:
    assert (
        BackgroundSelection(background=0.25)(torch.ones(1, 1, 1, 16, 16), PATCH, torch.Generator())
        is None
    )


def test_what_is_always_kept_grows_nothing() -> None:
    always = torch.zeros(1, 1, 3, 8, 8)
    always[:, :, 0] = 1
    selection = BackgroundSelection(background=0.0, multiple=1)(
        torch.zeros_like(always), PATCH, torch.Generator(), always=always
    )
    assert selection is not None
    assert selection.tokens[0].tolist() == list(range(16))


def test_the_draw_is_the_generators_and_one_for_every_batch() -> None:
    """Whole or routed, the next draw is the same: what comes after it does not move."""
    after = []
    for weights in (lay_square(), torch.ones(2, 1, 1, 16, 16)):
        generator = torch.Generator().manual_seed(3)
        BackgroundSelection(background=0.25)(weights, PATCH, generator)
        after.append(torch.rand(1, generator=generator))
    assert torch.equal(*after)


def test_cells_that_make_no_whole_token_are_refused() -> None:
    with pytest.raises(ValueError, match="do not make whole tokens"):
        BackgroundSelection(background=0.25)(torch.zeros(1, 1, 1, 15, 16), PATCH, torch.Generator())
