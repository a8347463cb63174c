"""Several passes of a denoiser where its pipeline makes one: other image tokens, else the same."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

from torch import Tensor, nn

from frisket.adapters.targets import unwrap_model
from frisket.families.experts import experts_of
from frisket.inference.methods.identity.image_attention import ImageAttention, RowSide


@dataclass(frozen=True, slots=True)
class DenoiserPasses:
    """One call of a denoiser: what it gave, and what it would give with other image tokens."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Tensor
    attention: ImageAttention

    def run(self, side: RowSide) -> Tensor:
        """The prediction with every row's image tokens of `side`: one more pass."""
        with self.attention.turn(side):
            forward: Callable[..., Any] = self.model.forward
            return read_prediction(forward(*self.args, **self.kwargs))


@contextmanager
def combine_passes(
    denoiser: nn.Module, attention: ImageAttention, combine: Callable[[DenoiserPasses], Tensor]
) -> Iterator[None]:
    """Inside, what `combine` gives stands for every prediction of the denoiser and its experts."""

    def join(model: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        passes = DenoiserPasses(model, args, kwargs, read_prediction(output), attention)
        return replace_prediction(output, combine(passes))

    with ExitStack() as stack:
        for expert in experts_of(denoiser).values():
            # Before the hooks that forget a call when it is over.
            handle = unwrap_model(expert).register_forward_hook(
                join, with_kwargs=True, prepend=True
            )
            stack.callback(handle.remove)
        yield


def read_prediction(output: Any) -> Tensor:
    """The tensor in what a denoiser gives: bare, in a tuple, or as `sample`."""
    if isinstance(output, Tensor):
        return output
    prediction = output[0] if isinstance(output, tuple) else output.sample
    if not isinstance(prediction, Tensor):
        raise ValueError(
            f"the denoiser gives {type(prediction).__name__}, no tensor: passes of it cannot be"
            " combined"
        )
    return prediction


def replace_prediction(output: Any, prediction: Tensor) -> Any:
    """The same with another prediction."""
    if isinstance(output, Tensor):
        return prediction
    if isinstance(output, tuple):
        return (prediction, *output[1:])
    if is_dataclass(output) and not isinstance(output, type):
        return replace(output, sample=prediction)
    raise ValueError(f"a {type(output).__name__} is no known output of a denoiser")
