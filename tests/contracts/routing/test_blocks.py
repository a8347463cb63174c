"""What every family says of its blocks for token routing: which rows go along, and which stay."""

from dataclasses import replace

import pytest
import torch
from tests.contracts.routing.draws import (
    draw_tokens,
    list_all_tokens,
    list_windows,
    shuffle_tokens,
)
from tests.contracts.routing.small_router import carry_tokens

from frisket.families.experts import experts_of, first
from frisket.families.routes import KeptTokens

CLOSE = 1e-5  # float32; what is renumbered is further off


@pytest.fixture
def routed(case, denoiser):
    """A copy of the denoiser in which every block does something; skipped where none is routed."""
    if case.family.routes is None or not case.family.routes.list_blocks(first(denoiser)):
        pytest.skip("cannot route")
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in denoiser.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
    return denoiser


class Renumbered:
    """Routes that take what goes with the tokens from the front of it, whichever are kept."""

    def __init__(self, routes):
        self.routes = routes

    def list_blocks(self, denoiser):
        return tuple(
            replace(block, narrow=block.narrow and self._renumber(block.narrow))
            for block in self.routes.list_blocks(denoiser)
        )

    def _renumber(self, narrow):
        def renumber(given, kept):
            tokens = torch.arange(kept.tokens.shape[1]).expand_as(kept.tokens)
            return narrow(given, KeptTokens(tokens, kept.call))

        return renumber


class RenumberedFamily:
    def __init__(self, family):
        self.streams, self.routes = family.streams, Renumbered(family.routes)


@torch.no_grad()
def test_keeping_all_tokens_changes_nothing_bit_for_bit(case, routed):
    frames = case.lengths[-1]
    plain = case.predict(routed, frames)
    for window in list_windows(case):
        with carry_tokens(case.family, routed, list_all_tokens(case, frames), window) as carriers:
            assert torch.equal(case.predict(routed, frames), plain)
        assert any(carrier.left for carrier in carriers)
    assert torch.equal(case.predict(routed, frames), plain)  # and nothing is left behind


@pytest.mark.slow
@torch.no_grad()
def test_keeping_all_tokens_changes_nothing_in_bfloat16_either(case, routed):
    for value in routed.parameters():
        value.data = value.data.to(torch.bfloat16)
    frames = case.lengths[-1]
    plain = case.predict(routed, frames)
    for window in list_windows(case):
        with carry_tokens(case.family, routed, list_all_tokens(case, frames), window):
            assert torch.equal(case.predict(routed, frames), plain)
        with carry_tokens(case.family, routed, draw_tokens(case, frames), window):
            assert case.predict(routed, frames).isfinite().all()


@torch.no_grad()
def test_tokens_in_another_order_are_where_they_were_and_renumbered_ones_are_not(case, routed):
    frames = case.lengths[-1]
    plain, tokens = case.predict(routed, frames), shuffle_tokens(case, frames)
    scale = float(plain.abs().max())
    rotates = any(block.narrow for block in case.family.routes.list_blocks(first(routed)))
    for window in list_windows(case):
        with carry_tokens(case.family, routed, tokens, window):
            assert (case.predict(routed, frames) - plain).abs().max() <= CLOSE * max(1, scale)
        with carry_tokens(RenumberedFamily(case.family), routed, tokens, window):
            renumbered = case.predict(routed, frames)
        if rotates:
            assert (renumbered - plain).abs().max() > 10 * CLOSE * max(1, scale)


@torch.no_grad()
def test_dropped_tokens_leave_the_window_as_they_came_and_text_and_pictures_do_not(case, routed):
    frames = case.lengths[-1]
    plain, tokens = case.predict(routed, frames), draw_tokens(case, frames)
    for window in list_windows(case):
        with carry_tokens(case.family, routed, tokens, window) as carriers:
            routed_prediction = case.predict(routed, frames)
        assert not torch.allclose(routed_prediction, plain, atol=1e-4)
        last = case.family.routes.list_blocks(first(routed))[window[1] - 1]
        passes = [
            (*entered, left)
            for carrier in carriers
            for entered, left in zip(carrier.entered, carrier.left, strict=True)
        ]
        assert passes
        for full, entry, kept, left in passes:
            before, moved = _split(kept, full, entry.stream)
            after, others = _split(kept, left, last.stream)
            stays = torch.ones(before.shape[:2], dtype=torch.bool)
            stays.scatter_(1, kept.tokens.expand(len(stays), -1), False)
            assert torch.equal(before[stays], after[stays])
            assert (before[~stays] != after[~stays]).any(-1).all()
            if entry.stream == last.stream and moved.numel():
                assert not torch.equal(moved, others)


def test_checkpointed_blocks_have_the_same_gradients(case, routed):
    """Of one sample: families that call their denoiser several times a batch do so once."""
    frames, window = case.lengths[-1], list_windows(case)[0]
    tokens = draw_tokens(case, frames)[:1]
    gradients = []
    routed.train().requires_grad_(True)
    for checkpointed in (False, True):
        if checkpointed:
            for expert in experts_of(routed).values():
                expert.enable_gradient_checkpointing()
        routed.zero_grad()
        with carry_tokens(case.family, routed, tokens, window):
            case.predict(routed, frames, batch=1).square().mean().backward()
        gradients.append({name: value.grad for name, value in routed.named_parameters()})
    plain, recomputed = gradients
    assert any(value is not None and value.any() for value in plain.values())
    for name, value in plain.items():
        torch.testing.assert_close(recomputed[name], value, atol=1e-6, rtol=1e-4, msg=name)


@torch.no_grad()
def test_each_sample_of_a_batch_carries_its_own_tokens(case, routed):
    frames, window = case.lengths[-1], list_windows(case)[0]
    tokens, noisy, conditioning = draw_tokens(case, frames), case.latents(frames), None
    conditioning = case.given(2, frames)
    with carry_tokens(case.family, routed, tokens, window):
        both = case.family.predict(routed, noisy, case.levels(), conditioning)
    for row in range(2):
        own = slice(row, row + 1)
        alone = {name: value[own] for name, value in conditioning.items()}
        for kept, same in ((tokens[own], True), (tokens[1 - row : 2 - row], False)):
            with carry_tokens(case.family, routed, kept, window):
                single = case.family.predict(routed, noisy[own], case.levels()[own], alone)
            assert torch.allclose(single, both[own], atol=1e-4, rtol=1e-4) is same


def _split(kept, rows, stream):
    """The picture's rows, and all others of a stream."""
    pieces = rows.split([part.count for part in kept.call.sequences[stream]], 1)
    kinds = [part.kind for part in kept.call.sequences[stream]]
    image = next(piece for piece, kind in zip(pieces, kinds, strict=True) if kind == "image")
    others = [piece for piece, kind in zip(pieces, kinds, strict=True) if kind != "image"]
    return image, torch.cat([rows[:, :0], *others], 1)
