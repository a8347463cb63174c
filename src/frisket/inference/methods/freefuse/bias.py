"""A push on the attention's logits: cells towards the words of their own concept (FreeFuse, 3.3).

Added before the softmax. The authors' defaults for FLUX are 4 away and 2 towards.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from frisket.attention.base import PhrasePositions, mark_phrases


@dataclass(frozen=True, slots=True)
class Bias:
    """How far logits are moved: `away` from other concepts, `towards` the own; both >= 0."""

    away: float = 4.0
    towards: float = 2.0

    def __post_init__(self) -> None:
        """Refuse a push the wrong way."""
        if self.away < 0 or self.towards < 0:
            raise ValueError(f"away and towards are at least 0, got {self.away}, {self.towards}")


def bias_cells(
    masks: Float[Tensor, "b T n"], phrases: PhrasePositions, length: int, bias: Bias
) -> Float[Tensor, "b n s"]:
    """For image queries over a text axis of `length` tokens: what is added to their logits.

    A cell of a concept is pushed off the other concepts' words and towards its own. Words of no
    concept and cells of none get 0.
    """
    members = mark_phrases(phrases, length).to(masks)
    other_members = members.sum(1, keepdim=True) - members
    return masks.mT @ (members * bias.towards - other_members * bias.away)


def bias_words(
    masks: Float[Tensor, "b T n"], phrases: PhrasePositions, length: int, bias: Bias
) -> Float[Tensor, "b s n"]:
    """For the prompt's queries over image cells, of joint attention: what is added to theirs.

    A concept's words are pushed off all cells but its own.
    """
    members = mark_phrases(phrases, length).to(masks)
    return members.mT @ (masks * bias.towards - (1 - masks) * bias.away)


def bias_joint(
    masks: Float[Tensor, "b T n"], phrases: PhrasePositions, length: int, bias: Bias
) -> Float[Tensor, "b rows keys"]:
    """Both of one sequence, the text first and then the image; 0 within text and within image."""
    cells = masks.shape[2]
    joint = masks.new_zeros(len(masks), length + cells, length + cells)
    joint[:, length:, :length] = bias_cells(masks, phrases, length, bias)
    joint[:, :length, length:] = bias_words(masks, phrases, length, bias)
    return joint


def check_apart(phrases: PhrasePositions, names: tuple[str, ...]) -> None:
    """ValueError where two concepts share a position on the text axis: it would be both's."""
    for row in phrases:
        for index, positions in enumerate(row):
            for other in range(index):
                if shared := set(positions) & set(row[other]):
                    raise ValueError(
                        f"{names[other]!r} and {names[index]!r} share the tokens"
                        f" {sorted(shared)} of the prompt: give phrases that do not overlap"
                    )
