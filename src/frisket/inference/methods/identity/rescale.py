"""UniID's rescaling (arXiv 2512.03964): an identity joins at the strength of what it joins.

Norms are of one sample each; the authors' code adds its epsilon to every row of a batch as soon as
one is near zero, here to that row alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-6


def rescale_to_output(
    branch: Float[Tensor, "r n c"], output: Float[Tensor, "r n c"], epsilon: float = EPSILON
) -> Float[Tensor, "r n c"]:
    """The branch at the Frobenius norm (tokens and channels) of what it is added to, row by row.

    Any scale of the branch gives the same; a branch of zeros stays zeros. For sampling only: while
    training, a branch that begins at nearly nothing would be blown up.
    """
    branch_norm = torch.linalg.vector_norm(branch.float(), dim=(1, 2), keepdim=True)
    output_norm = torch.linalg.vector_norm(output.float(), dim=(1, 2), keepdim=True)
    branch_norm = torch.where(branch_norm < epsilon, branch_norm + epsilon, branch_norm)
    return (branch.float() * (output_norm / branch_norm)).to(branch.dtype)


def rescale_tokens(
    tokens: Float[Tensor, "b t c"], norms: Float[Tensor, "t"], scale: float = 1.0
) -> Float[Tensor, "b t c"]:
    """Identity tokens for a prompt, each at the reference norm of its place, times `scale`.

    `norms` are those of a text encoder's output for names of people, by position. ValueError for
    another number of them than of tokens.
    """
    if norms.shape != tokens.shape[1:2]:
        raise ValueError(f"{tokens.shape[1]} identity tokens, but {tuple(norms.shape)} norms")
    lengths = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True).clamp_min(1e-30)
    return scale * tokens / lengths * norms[:, None].to(tokens)


def put_tokens(
    text: Float[Tensor, "b s c"], tokens: Float[Tensor, "b t c"]
) -> Float[Tensor, "b s c"]:
    """Identity tokens right after the prompt's first; as many of its last are dropped.

    ValueError where they do not fit behind the first token.
    """
    count, length = tokens.shape[1], text.shape[1]
    if count >= length:
        raise ValueError(f"{count} identity tokens do not fit into a prompt of {length} tokens")
    return torch.cat([text[:, :1], tokens.to(text), text[:, 1 : length - count]], 1)


@dataclass(frozen=True, slots=True)
class MergeSchedule:
    """How strong the two branches are by step: little until `start`, then more (their defaults)."""

    start: int = 5
    text: tuple[float, float] = (0.5, 1.8)  # before, from then on
    adapter: tuple[float, float] = (0.8, 1.2)

    def list_text_scales(self) -> Sequence[float]:
        """The scale of the identity's tokens in the prompt, one a step; the last holds on."""
        return (*[self.text[0]] * max(self.start, 0), self.text[1])

    def list_adapter_scales(self) -> Sequence[float]:
        """The same of the branch beside the attention."""
        return (*[self.adapter[0]] * max(self.start, 0), self.adapter[1])
