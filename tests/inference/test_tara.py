"""TARA at sampling: two LoRAs apart on the text, exactly where text and picture meet in keys."""

from functools import partial

import torch
from tests.inference.freefuse.test_families import PHRASES, draw, fused  # noqa: F401
from torch import Tensor

from frisket.attention.base import mark_positions
from frisket.attention.capture import find_prompt
from frisket.families.streams import DenoiserCall
from frisket.inference.methods.tara import Tara
from frisket.inference.methods.words import lay_tokens


@torch.no_grad()
def test_disjoint_words_isolate_the_keys_of_the_text(fused) -> None:  # noqa: F811
    family, parts, factors, spec, _ = fused
    seen: list[dict[str, Tensor]] = [{}, {}]

    def watch(index: int, name: str, _: Tensor, update: Tensor) -> None:
        if family.streams.find(name) in ("text", "prompt") and update.any():
            seen[index][name] = update

    for index, own in enumerate(factors):
        own.observer = partial(watch, index)
    plain = draw(family, parts, spec)
    seen[:] = [{}, {}]
    focused = draw(family, parts, spec, Tara(factors, PHRASES))
    assert all(own.idle for own in factors)
    for own in factors:
        own.observer = None
    assert not torch.equal(plain, focused)
    rows = next(iter(PHRASES.values()))
    for index, updates in enumerate(seen):
        assert updates
        for name, update in updates.items():
            acting = update.abs().sum(-1).amax(0).nonzero()[:, 0].tolist()
            assert set(acting) <= set(rows[index]), name


def test_a_negative_prompt_has_no_word_and_a_padded_one_is_found() -> None:
    text = torch.randn(2, 5, 3)
    text[1, 3:] = 0
    assert find_prompt(torch.cat([text[1], torch.zeros(2, 3)]), text) == 1
    assert find_prompt(text[1, :3], text) == 1
    assert find_prompt(text[0] + 1, text) is None
    call = DenoiserCall(torch.ones(3), (1, 2, 2), [text[1] * 0, text[1], text[0]])
    tokens = mark_positions([(1, 2), (0,)])
    laid = lay_tokens(tokens, text, call, other=0.0)
    assert laid.tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]]
