"""Several passes of a denoiser where its pipeline makes one: other image tokens, else the same.

Methods that combine passes nest: a pass of the first is combined by those that came after it, so
that what one leaves out, another that is still on adds in its own place alone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, is_dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

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
    later: tuple["PassJoin", ...] = ()  # what combines passes within this one

    def run(self, side: RowSide) -> Tensor:
        """The prediction with every row's image tokens of `side`: one more pass."""
        with self.attention.turn(side):
            forward: Callable[..., Any] = self.model.forward
            output = forward(*self.args, **self.kwargs)
            for join in reversed(self.later):
                output = join(self.args, self.kwargs, output)
            return read_prediction(output)


@dataclass(eq=False, slots=True)
class PassJoin:
    """What stands for one model's predictions, as one method has it."""

    model: nn.Module
    attention: ImageAttention
    combine: Callable[[DenoiserPasses], Tensor]

    def __call__(self, args: Any, kwargs: Mapping[str, Any], output: Any) -> Any:
        """The output with the combined prediction in place of its own."""
        joins = _JOINS[self.model]
        later = tuple(joins[joins.index(self) + 1 :])
        prediction = read_prediction(output)
        passes = DenoiserPasses(self.model, args, kwargs, prediction, self.attention, later)
        return replace_prediction(output, self.combine(passes))

    def follow(self, _: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """The same as a hook after the model's forward pass."""
        return self(args, kwargs, output)


# Of each model what combines its passes now, in the order it came.
_JOINS: WeakKeyDictionary[nn.Module, list[PassJoin]] = WeakKeyDictionary()


@contextmanager
def combine_passes(
    denoiser: nn.Module, attention: ImageAttention, combine: Callable[[DenoiserPasses], Tensor]
) -> Iterator[None]:
    """Inside, what `combine` gives stands for every prediction of the denoiser and its experts."""
    with ExitStack() as stack:
        for expert in experts_of(denoiser).values():
            model = unwrap_model(expert)
            join, joins = PassJoin(model, attention, combine), _JOINS.setdefault(model, [])
            joins.append(join)
            stack.callback(joins.remove, join)
            # Before the hooks that forget a call when it is over.
            handle = model.register_forward_hook(join.follow, with_kwargs=True, prepend=True)
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
