"""What methods that act by the prompt's words share: whose prompt a row has, factors of tokens."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.routed.factors import Factors
from frisket.attention.capture import find_prompt
from frisket.families.streams import DenoiserCall
from frisket.inference.sample_specs import SampleSpec

PromptPositions = Sequence[Sequence[int]]  # of one prompt: each phrase's positions on the text axis
PromptPhrases = Mapping[str, PromptPositions]


def find_rows(phrases: PromptPhrases, specs: Sequence[SampleSpec]) -> list[PromptPositions]:
    """The phrases of each sample's prompt; ValueError for a prompt that nothing is known of."""
    unknown_prompts = [spec.prompt for spec in specs if spec.prompt not in phrases]
    if unknown_prompts:
        raise ValueError(
            f"it is not known where the phrases are in the prompt {unknown_prompts[0]!r}"
        )
    return [phrases[spec.prompt] for spec in specs]


def read_prompts(kwargs: Mapping[str, Any]) -> Float[Tensor, "b s c"]:
    """The prompts' embeddings that a pipeline is called with, padded with zeros to one length."""
    embeddings = kwargs["prompt_embeds"]
    if isinstance(embeddings, Tensor):
        return embeddings
    return nn.utils.rnn.pad_sequence(list(embeddings), batch_first=True)


def lay_tokens(
    tokens: Float[Tensor, "b s"],
    text: Float[Tensor, "b length c"],
    call: DenoiserCall,
    other: float,
) -> Float[Tensor, "r s"]:
    """The factor of each row of a call: its own prompt's; `other` of any other (a negative one)."""
    rows = []
    for prompt in call.text:
        owner = find_prompt(prompt, text)
        rows.append(torch.full_like(tokens[0], other) if owner is None else tokens[owner])
    return torch.stack(rows)


@contextmanager
def multiply(factors: Factors, **sources: Any) -> Iterator[None]:
    """Inside, an adapter's update is multiplied by these (`space`, `tokens`); after, as before."""
    before = {name: getattr(factors, name) for name in sources}
    for name, source in sources.items():
        setattr(factors, name, source)
    try:
        yield
    finally:
        for name, source in before.items():
            setattr(factors, name, source)
